//! Conversion of values to and from SQLite.

use std::sync::Arc;

use domain::plugin::Statement;
use domain::scope::Value;
use futures_util::TryStreamExt;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Column, Either, Executor, Row as _, SqlSafeStr, Sqlite, Statement as _, TypeInfo, ValueRef};

use super::{Bound, Most, Row, round_trips};

pub async fn fetch(
    conn: &mut SqliteConnection,
    sql: impl SqlSafeStr,
    args: &[Bound],
    most: Most,
) -> Result<Vec<Row>, sqlx::Error> {
    round_trips::count();
    let mut stream = bind(sql, args).fetch(conn);
    let (mut rows, mut bytes, mut columns) = (Vec::new(), 0, None);
    while let Some(row) = stream.try_next().await? {
        let columns = columns.get_or_insert_with(|| names(&row)).clone();
        let values = decode(&row)?;
        bytes += values.iter().map(Value::bytes).sum::<usize>();
        rows.push(Row::new(columns, values));
        if most.exceeded(&rows, bytes) {
            break;
        }
    }
    Ok(rows)
}

pub async fn execute(
    conn: &mut SqliteConnection,
    sql: impl SqlSafeStr,
    args: &[Bound],
) -> Result<u64, sqlx::Error> {
    round_trips::count();
    Ok(bind(sql, args).execute(conn).await?.rows_affected())
}

/// Prepares a declared statement and checks its number of parameters. At a call, SQLite would treat a missing
/// value as NULL and ignore an extra one.
pub async fn check(conn: &mut SqliteConnection, statement: &Statement) -> Result<(), sqlx::Error> {
    let refused = |why: String| sqlx::Error::Encode(why.into());
    let wanted = statement.parameters().map_err(refused)?;
    let read = statement.parameters_on_sqlite().map_err(refused)?;
    let prepared = conn.prepare(sqlx::AssertSqlSafe(statement.sql.as_str()).into_sql_str()).await?;
    let found = match prepared.parameters() {
        Some(Either::Left(types)) => types.len(),
        Some(Either::Right(number)) => number,
        None => wanted,
    };
    if read != wanted || found != wanted {
        let why = format!(
            "SQLite finds {found} parameters in it, and it has {wanted}: write $1, $2 … outside of quotes"
        );
        return Err(refused(why));
    }
    Ok(())
}

fn bind<'a>(sql: impl SqlSafeStr, args: &'a [Bound]) -> Query<'a, Sqlite, SqliteArguments> {
    args.iter().fold(sqlx::query(sql), |query, arg| match arg {
        Bound::Value(Value::Null) => query.bind(None::<i64>),
        Bound::Value(Value::Boolean(truth)) => query.bind(i64::from(*truth)),
        Bound::Value(Value::Integer(number)) => query.bind(*number),
        Bound::Value(Value::Real(number)) => query.bind(*number),
        Bound::Value(Value::Text(text)) => query.bind(text.as_str()),
        Bound::Value(Value::Blob(bytes)) => query.bind(bytes.as_slice()),
        Bound::Id(id) => query.bind(id.to_string()),
        // Statements for SQLite have no arrays: the rows of a table are one JSON text.
        Bound::Ids(_) | Bound::Integers(_) | Bound::Texts(_) | Bound::Blobs(_) => query.bind(None::<i64>),
    })
}

fn names(row: &SqliteRow) -> Arc<[String]> {
    row.columns().iter().map(|c| c.name().to_owned()).collect()
}

fn decode(row: &SqliteRow) -> Result<Vec<Value>, sqlx::Error> {
    (0..row.columns().len()).map(|at| decode_one(row, at)).collect()
}

fn decode_one(row: &SqliteRow, at: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().into_owned();
    match kind.name() {
        "REAL" => row.try_get_unchecked(at).map(Value::Real),
        "TEXT" => row.try_get_unchecked(at).map(Value::Text),
        "BLOB" => row.try_get_unchecked(at).map(Value::Blob),
        _ => row.try_get_unchecked(at).map(Value::Integer),
    }
}
