//! Values in and out of SQLite.

use std::sync::Arc;

use domain::scope::Value;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Column, Executor, Row as _, Sqlite, SqlSafeStr, TypeInfo, ValueRef};

use super::Row;

pub async fn fetch(
    conn: &mut SqliteConnection,
    sql: impl SqlSafeStr,
    args: &[Value],
    keep: bool,
) -> Result<Vec<Row>, sqlx::Error> {
    let rows = bind(sql, args, keep).fetch_all(conn).await?;
    let columns = names(rows.first());
    rows.iter().map(|row| Ok(Row::new(columns.clone(), decode(row)?))).collect()
}

pub async fn execute(
    conn: &mut SqliteConnection,
    sql: impl SqlSafeStr,
    args: &[Value],
    keep: bool,
) -> Result<u64, sqlx::Error> {
    Ok(bind(sql, args, keep).execute(conn).await?.rows_affected())
}

pub async fn prepare(conn: &mut SqliteConnection, sql: impl SqlSafeStr) -> Result<(), sqlx::Error> {
    conn.prepare(sql.into_sql_str()).await.map(|_| ())
}

fn bind<'a>(sql: impl SqlSafeStr, args: &'a [Value], keep: bool) -> Query<'a, Sqlite, SqliteArguments> {
    args.iter().fold(sqlx::query(sql).persistent(keep), |query, value| match value {
        Value::Null => query.bind(None::<i64>),
        Value::Boolean(truth) => query.bind(i64::from(*truth)),
        Value::Integer(number) => query.bind(*number),
        Value::Real(number) => query.bind(*number),
        Value::Text(text) => query.bind(text.as_str()),
        Value::Blob(bytes) => query.bind(bytes.as_slice()),
    })
}

fn names(row: Option<&SqliteRow>) -> Arc<[String]> {
    row.map(|row| row.columns().iter().map(|c| c.name().to_owned()).collect()).unwrap_or_default()
}

fn decode(row: &SqliteRow) -> Result<Vec<Value>, sqlx::Error> {
    (0..row.columns().len()).map(|at| decode_one(row, at)).collect()
}

fn decode_one(row: &SqliteRow, at: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().name().to_owned();
    match kind.as_str() {
        "REAL" => row.try_get_unchecked(at).map(Value::Real),
        "TEXT" => row.try_get_unchecked(at).map(Value::Text),
        "BLOB" => row.try_get_unchecked(at).map(Value::Blob),
        _ => row.try_get_unchecked(at).map(Value::Integer),
    }
}
