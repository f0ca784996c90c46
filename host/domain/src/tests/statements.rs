//! Parameters of declared statements: their number, their types, and the values that a call may pass.

use expect_test::expect;
use serde_json::json;

use crate::plugin::{Describe, ParamType, Statement};
use crate::scope::Value;

fn statement(sql: &str, params: Option<Vec<ParamType>>) -> Statement {
    Statement { datasource: "d".to_owned(), sql: sql.to_owned(), writes: false, params }
}

#[test]
fn parameters_are_numbered_without_a_gap() {
    let texts = [
        "SELECT 1",
        "SELECT a FROM t WHERE b = $1",
        "SELECT a FROM t WHERE b = $2 AND c = $1 AND d = $2",
        "SELECT $1::text, '$7', \"$8\" FROM t",
        "SELECT $2",
        "SELECT $1, $3",
        "SELECT $0",
        "SELECT $01",
        "SELECT $1a",
        "SELECT $1$2",
        "SELECT $32767",
        "SELECT $99999999999999999999999",
        "SELECT a[$1], `$2` FROM t",
        "SELECT ?",
        "SELECT $1 WHERE a = :name",
        "SELECT @a",
    ];
    let line = |sql: &&str| {
        let statement = statement(sql, None);
        let words =
            |number: Result<usize, String>| number.map_or_else(|why| why, |number| number.to_string());
        format!("{sql}: {} / {}\n", words(statement.parameters()), words(statement.parameters_on_sqlite()))
    };
    expect![[r#"
        SELECT 1: 0 / 0
        SELECT a FROM t WHERE b = $1: 1 / 1
        SELECT a FROM t WHERE b = $2 AND c = $1 AND d = $2: 2 / 2
        SELECT $1::text, '$7', "$8" FROM t: 1 / ':' begins a parameter in SQLite: parameters are $1, $2 …
        SELECT $2: it has a parameter $2, and no $1: parameters are numbered from $1 without a gap / it has a parameter $2, and no $1: parameters are numbered from $1 without a gap
        SELECT $1, $3: it has a parameter $3, and no $2: parameters are numbered from $1 without a gap / it has a parameter $3, and no $2: parameters are numbered from $1 without a gap
        SELECT $0: $0 is no parameter of its own: they are $1, $2 … / $0 is no parameter of its own: they are $1, $2 …
        SELECT $01: $01 is no parameter of its own: they are $1, $2 … / $01 is no parameter of its own: they are $1, $2 …
        SELECT $1a: $1a is no parameter of its own: they are $1, $2 … / $1a is no parameter of its own: they are $1, $2 …
        SELECT $1$2: $1 is no parameter of its own: they are $1, $2 … / $1 is no parameter of its own: they are $1, $2 …
        SELECT $32767: $32767 is no parameter of its own: they are $1, $2 … / $32767 is no parameter of its own: they are $1, $2 …
        SELECT $99999999999999999999999: $99999999999999999999 is no parameter of its own: they are $1, $2 … / $99999999999999999999 is no parameter of its own: they are $1, $2 …
        SELECT a[$1], `$2` FROM t: 2 / 0
        SELECT ?: 0 / '?' begins a parameter in SQLite: parameters are $1, $2 …
        SELECT $1 WHERE a = :name: 1 / ':' begins a parameter in SQLite: parameters are $1, $2 …
        SELECT @a: 0 / '@' begins a parameter in SQLite: parameters are $1, $2 …
    "#]].assert_eq(&texts.iter().map(line).collect::<String>());
}

fn described(params: serde_json::Value) -> Result<Describe, String> {
    let statement =
        json!({"datasource": "d", "sql": "SELECT a FROM t WHERE b = $1 AND c = $2", "params": params});
    Describe::parse(&json!({"name": "w", "version": "1", "statements": {"find": statement}}).to_string())
}

#[test]
fn declared_types_are_one_for_each_parameter() {
    let found = described(json!(["integer", "text"])).unwrap();
    assert_eq!(found.statements["find"].params, Some(vec![ParamType::Integer, ParamType::Text]));
    expect![[r#"statement "find": its SQL has 2 parameters, and `params` declares 1"#]]
        .assert_eq(&described(json!(["integer"])).unwrap_err());
    let unknown = described(json!(["integer", "date"])).unwrap_err();
    assert!(
        unknown
            .contains("unknown variant `date`, expected one of `boolean`, `integer`, `real`, `text`, `blob`"),
        "{unknown}"
    );
    // The stored form of a statement without declared types is the one that earlier hosts read.
    let kept = serde_json::to_value(statement("SELECT 1", None)).unwrap();
    assert_eq!(kept, json!({"datasource": "d", "sql": "SELECT 1", "writes": false}));
}

#[test]
fn calls_pass_the_declared_parameters() {
    let undeclared = statement("SELECT a FROM t WHERE b = $1 AND c = $2", None);
    let declared =
        Statement { params: Some(vec![ParamType::Integer, ParamType::Blob]), ..undeclared.clone() };
    let one = statement("SELECT $1", None);
    let mut reported = String::new();
    let mut tell = |statement: &Statement, values: &[Value]| {
        let verdict = statement.accepts("find", values).map_or_else(|why| why, |()| "fine".to_owned());
        reported.push_str(&format!("{values:?}: {verdict}\n"));
    };
    tell(&one, &[]);
    tell(&one, &[Value::Null, Value::Null]);
    tell(&undeclared, &[Value::Null]);
    tell(&undeclared, &[Value::Boolean(true), Value::Real(1.0)]);
    tell(&declared, &[Value::Integer(1), Value::Blob(vec![1])]);
    tell(&declared, &[Value::Null, Value::Null]);
    tell(&declared, &[Value::Integer(1)]);
    tell(&declared, &[Value::Text("1".to_owned()), Value::Null]);
    tell(&declared, &[Value::Integer(1), Value::Text("x".to_owned())]);
    tell(&declared, &[Value::Real(1.0), Value::Null]);
    expect![[r#"
        []: statement "find" has 1 parameter, and 0 were given
        [Null, Null]: statement "find" has 1 parameter, and 2 were given
        [Null]: statement "find" has 2 parameters, and 1 were given
        [Boolean(true), Real(1.0)]: fine
        [Integer(1), Blob([1])]: fine
        [Null, Null]: fine
        [Integer(1)]: statement "find" has 2 parameters, and 1 were given
        [Text("1"), Null]: $1 of statement "find" is declared as integer, and text was given
        [Integer(1), Text("x")]: $2 of statement "find" is declared as blob, and text was given
        [Real(1.0), Null]: $1 of statement "find" is declared as integer, and real was given
    "#]]
    .assert_eq(&reported);
}
