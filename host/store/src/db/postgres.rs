//! Conversion of values to and from Postgres.

use std::sync::Arc;

use domain::plugin::ParamType;
use domain::scope::Value;
use futures_util::TryStreamExt;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgConnection, PgRow, PgTypeInfo};
use sqlx::query::Query;
use sqlx::{
    Column, Either, Encode, Executor, Postgres, Row as _, SqlSafeStr, Statement as _, Type, TypeInfo,
    ValueRef,
};

use uuid::Uuid;

use super::{Bound, Most, Row, round_trips};

pub async fn fetch(
    conn: &mut PgConnection,
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
    conn: &mut PgConnection,
    sql: impl SqlSafeStr,
    args: &[Bound],
) -> Result<u64, sqlx::Error> {
    round_trips::count();
    Ok(bind(sql, args).execute(conn).await?.rows_affected())
}

/// Prepares a declared statement with the parameter types that calls will use. If none are declared, it uses
/// the types of guest values that are closest to those that Postgres infers: a statement that fails with
/// these would fail at each call.
pub async fn check(
    conn: &mut PgConnection,
    sql: &str,
    declared: Option<&[ParamType]>,
) -> Result<(), sqlx::Error> {
    let types: Vec<PgTypeInfo> = match declared {
        Some(types) => types.iter().map(declared_type).collect(),
        None => {
            let prepared = conn.prepare(sqlx::AssertSqlSafe(sql).into_sql_str()).await?;
            match prepared.parameters() {
                Some(Either::Left(types)) => types.iter().map(given_type).collect(),
                _ => return Ok(()),
            }
        }
    };
    // The driver caches prepared statements by their text alone: other types are another text.
    let names: Vec<&str> = types.iter().map(TypeInfo::name).collect();
    let text = sqlx::AssertSqlSafe(format!("{sql} /* checked with {} */", names.join(", "))).into_sql_str();
    conn.prepare_with(text, &types).await.map(|_| ())
}

fn declared_type(declared: &ParamType) -> PgTypeInfo {
    match declared {
        ParamType::Boolean => <bool as Type<Postgres>>::type_info(),
        ParamType::Integer => <i64 as Type<Postgres>>::type_info(),
        ParamType::Real => <f64 as Type<Postgres>>::type_info(),
        ParamType::Text => <str as Type<Postgres>>::type_info(),
        ParamType::Blob => <[u8] as Type<Postgres>>::type_info(),
    }
}

fn given_type(inferred: &PgTypeInfo) -> PgTypeInfo {
    declared_type(match inferred.name() {
        "BOOL" => &ParamType::Boolean,
        "INT2" | "INT4" | "INT8" | "OID" => &ParamType::Integer,
        "FLOAT4" | "FLOAT8" | "NUMERIC" => &ParamType::Real,
        "BYTEA" => &ParamType::Blob,
        _ => &ParamType::Text,
    })
}

fn bind<'a>(sql: impl SqlSafeStr, args: &'a [Bound]) -> Query<'a, Postgres, PgArguments> {
    args.iter().fold(sqlx::query(sql), |query, arg| match arg {
        Bound::Value(Value::Null) => query.bind(Untyped),
        Bound::Value(Value::Boolean(truth)) => query.bind(*truth),
        Bound::Value(Value::Integer(number)) => query.bind(*number),
        Bound::Value(Value::Real(number)) => query.bind(*number),
        Bound::Value(Value::Text(text)) => query.bind(text.as_str()),
        Bound::Value(Value::Blob(bytes)) => query.bind(bytes.as_slice()),
        Bound::Id(id) => query.bind(*id),
        Bound::Ids(ids) => query.bind(ids.as_slice()),
        Bound::Integers(numbers) => query.bind(numbers.as_slice()),
        Bound::Texts(texts) => query.bind(texts.as_slice()),
        Bound::Blobs(blobs) => query.bind(blobs.as_slice()),
    })
}

/// A null of type `unknown`: Postgres infers the type from the context.
struct Untyped;

impl Type<Postgres> for Untyped {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(705))
    }
}

impl Encode<'_, Postgres> for Untyped {
    fn encode_by_ref(&self, _: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(IsNull::Yes)
    }
}

fn names(row: &PgRow) -> Arc<[String]> {
    row.columns().iter().map(|c| c.name().to_owned()).collect()
}

fn decode(row: &PgRow) -> Result<Vec<Value>, sqlx::Error> {
    (0..row.columns().len()).map(|at| decode_one(row, at)).collect()
}

fn decode_one(row: &PgRow, at: usize) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let kind = raw.type_info().into_owned();
    match kind.name() {
        "BOOL" => row.try_get(at).map(Value::Boolean),
        "INT2" => row.try_get::<i16, _>(at).map(|n| Value::Integer(n.into())),
        "INT4" => row.try_get::<i32, _>(at).map(|n| Value::Integer(n.into())),
        "INT8" => row.try_get(at).map(Value::Integer),
        "FLOAT4" => row.try_get::<f32, _>(at).map(|n| Value::Real(n.into())),
        "FLOAT8" => row.try_get(at).map(Value::Real),
        "BYTEA" => row.try_get(at).map(Value::Blob),
        "UUID" => row.try_get::<Uuid, _>(at).map(|id| Value::Text(id.to_string())),
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" => row.try_get(at).map(Value::Text),
        other => {
            let name = row.columns().get(at).map(Column::name).unwrap_or_default();
            let hint = format!("column {name:?} is of type {other}: cast it to text in the statement");
            Err(sqlx::Error::Decode(hint.into()))
        }
    }
}
