//! Placeholders in statements, and the arguments that they take.

use std::collections::BTreeSet;

use domain::id::ItemId;
use domain::scope::Value;
use domain::scope::Value::{Blob, Integer, Null, Text};
use test_support::on_both;
use uuid::Uuid;

use super::support::T;
use crate::db::arg::{Bound, bind};
use crate::db::sql::Sql;
use crate::db::{Arg, Rows, args, row};

on_both! {
    rows_make_the_round_trip,
    no_rows_are_an_empty_table,
    constant_columns_make_the_round_trip,
}

const PAIRS: Sql = Sql::same(
    "SELECT given.id, given.number, given.text, given.bytes FROM @given(id uuid, number bigint, text text, bytes bytea)
    ORDER BY given.number",
);

fn pair(number: u128, text: Option<&str>) -> [Arg; 4] {
    row![ItemId(Uuid::from_u128(number)), i64::try_from(number).unwrap(), text, vec![0_u8, 255]]
}

async fn rows_make_the_round_trip(t: T) {
    let given: Rows = [pair(2, Some("it's \"here\" {,}\u{1F980}")), pair(1, None)].into_iter().collect();
    let rows = t.store.db.fetch(PAIRS, &args! { given: given }).await.unwrap();
    let id = |number: u128| Text(Uuid::from_u128(number).to_string());
    let bytes = Blob(vec![0, 255]);
    assert_eq!(rows[0].values(), [id(1), Integer(1), Null, bytes.clone()]);
    assert_eq!(rows[1].values(), [id(2), Integer(2), Text("it's \"here\" {,}\u{1F980}".to_owned()), bytes]);
}

async fn no_rows_are_an_empty_table(t: T) {
    let rows = t.store.db.fetch(PAIRS, &args! { given: Rows::default() }).await.unwrap();
    assert!(rows.is_empty());
}

/// With more kinds of rows than texts for them.
async fn constant_columns_make_the_round_trip(t: T) {
    let id = |number: i64| ItemId(Uuid::from_u128(number.unsigned_abs().into()));
    for kind in 0..16_i64 {
        let varies = |bit: i64, n: i64| if kind & bit > 0 { n } else { 0 };
        let row = |n: i64| {
            let text = (kind != 3).then(|| format!("text {}", varies(4, n)));
            row![id(varies(1, n)), varies(2, n), text, vec![u8::try_from(varies(8, n)).unwrap()]]
        };
        let given: Rows = (0..20).map(row).collect();
        let rows = t.store.db.fetch(PAIRS, &args! { given: given.clone() }).await.unwrap();
        assert_eq!(rows.len(), 20, "kind {kind}");
        let sent: BTreeSet<String> = (0..20).map(|n| format!("{:?}", shown(row(n)))).collect();
        let received: BTreeSet<String> = rows.iter().map(|row| format!("{:?}", row.values())).collect();
        assert_eq!(sent, received, "kind {kind}");
    }
}

/// The values as the database returns them.
fn shown(row: [Arg; 4]) -> [Value; 4] {
    row.map(|arg| match arg {
        Arg::Id(id) => Text(id.to_string()),
        Arg::Value(value) => value,
        Arg::Rows(_) => Null,
    })
}

#[test]
fn constant_columns_are_single_values() {
    const TABLE: Sql = Sql::same("SELECT 1 FROM @asked(id uuid, n bigint, t text) WHERE n > :least");
    let text = |rows: Rows| TABLE.postgres_for(&args! { asked: rows, least: 1_i64 }).text;
    let id = |n: u128| ItemId(Uuid::from_u128(n));
    assert_eq!(
        text((0..16).map(|n| row![id(n), 1_i64, "t"]).collect()),
        "SELECT 1 FROM (SELECT id, CAST($2 AS bigint) AS n, CAST($3 AS text) AS t \
        FROM unnest(CAST($1 AS uuid[])) AS asked (id)) AS asked WHERE n > $4"
    );
    // One array tells the number of rows.
    let same = text((0..16).map(|_| row![id(1), 1_i64, "t"]).collect());
    assert_eq!(same, text((0..16).map(|n| row![id(n), 1_i64, "t"]).collect()));
    // A number that is the same by chance.
    assert!(text((0..16).map(|n| row![id(n), 7_i64, "t"]).collect()).contains("CAST($2 AS bigint[])"));
    // Of few rows, and without a constant column.
    assert_eq!(text((0..15).map(|n| row![id(n), 1_i64, "t"]).collect()), TABLE.postgres().text);
    let all = (0..16).map(|n| row![id(n), i64::try_from(n).unwrap(), n.to_string()]);
    assert_eq!(text(all.collect()), TABLE.postgres().text);
}

#[test]
fn a_parameter_has_one_number() {
    const BOTH: Sql = Sql::same("SELECT :name, ':quoted', \"@too(x)\", :other, :name FROM t");
    assert_eq!(BOTH.sqlite().text, "SELECT $1, ':quoted', \"@too(x)\", $2, $1 FROM t");
    const SAME: Sql = Sql::same("SELECT :a, :b, :a");
    assert_eq!(SAME.postgres().text, "SELECT $1, $2, $1");
    assert_eq!(SAME.sqlite().text, SAME.postgres().text);
}

#[test]
fn tables_are_arrays_or_json() {
    const TABLE: Sql = Sql::same("SELECT 1 FROM @asked(id uuid, n bigint) WHERE n > :least");
    assert_eq!(
        TABLE.postgres().text,
        "SELECT 1 FROM unnest(CAST($1 AS uuid[]), CAST($2 AS bigint[])) AS asked (id, n) WHERE n > $3"
    );
    assert_eq!(
        TABLE.sqlite().text,
        "SELECT 1 FROM (SELECT value ->> 0 AS id, value ->> 1 AS n FROM json_each($1)) AS asked WHERE n > $2"
    );
}

#[test]
fn joins_keep_their_order() {
    const JOIN: Sql = Sql::same("SELECT 1 FROM @asked(id uuid) @join(item ON item.id = asked.id) WHERE true");
    assert_eq!(
        JOIN.postgres().text,
        "SELECT 1 FROM unnest(CAST($1 AS uuid[])) AS asked (id) \
        CROSS JOIN LATERAL (SELECT * FROM item WHERE item.id = asked.id OFFSET 0) AS item WHERE true"
    );
    assert!(JOIN.sqlite().text.ends_with("AS asked CROSS JOIN item ON item.id = asked.id WHERE true"));
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    const TABLE: Sql = Sql::same("SELECT :a FROM @asked(id uuid)");
    let refusal = |args: &[(&'static str, Arg)]| {
        let refused = |sql: &_| bind(sql, args).unwrap_err().to_string();
        let (sqlite, postgres) = (refused(TABLE.sqlite()), refused(TABLE.postgres()));
        assert_eq!(sqlite, postgres);
        postgres
    };
    let ids = || [row![ItemId(Uuid::nil())]].into_iter().collect::<Rows>();
    assert!(refusal(&args! { asked: ids() }).contains(r#"parameter "a" has no argument"#));
    assert!(refusal(&args! { a: 1_i64, asked: 1_i64 }).contains(r#"parameter "asked" has no argument"#));
    assert!(refusal(&args! { a: ids(), asked: ids() }).contains(r#"parameter "a" has no argument"#));
    assert!(
        refusal(&args! { a: 1_i64, asked: ids(), b: 2_i64 })
            .contains(r#"no parameter takes the argument "b""#)
    );
    assert!(refusal(&args! { a: "\0", asked: ids() }).contains("zero byte"));
}

#[test]
fn a_text_with_a_zero_byte_is_refused_in_a_table_too() {
    const TABLE: Sql = Sql::same("SELECT 1 FROM @asked(key text)");
    let rows: Rows = [row!["a\0b"]].into_iter().collect();
    for statement in [TABLE.sqlite(), TABLE.postgres()] {
        let refused = bind(statement, &args! { asked: rows.clone() }).unwrap_err();
        assert!(refused.to_string().contains("zero byte"), "{refused}");
    }
}

#[test]
fn a_value_of_another_type_is_refused_where_types_are_fixed() {
    const TABLE: Sql = Sql::same("SELECT 1 FROM @asked(id uuid)");
    let rows: Rows = [row!["no id"]].into_iter().collect();
    let refused = bind(TABLE.postgres(), &args! { asked: rows }).unwrap_err();
    assert!(refused.to_string().contains("a column of type uuid cannot take"), "{refused}");
    let none: Rows = [row![Option::<i64>::None]].into_iter().collect();
    let bound = bind(TABLE.postgres(), &args! { asked: none }).unwrap();
    assert!(matches!(bound.as_slice(), [Bound::Ids(ids)] if ids == &[None]));
}
