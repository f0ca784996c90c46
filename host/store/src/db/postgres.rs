//! Conversion of values to and from Postgres.

use std::sync::Arc;

use domain::plugin::ParamType;
use domain::scope::Value;
use futures_util::TryStreamExt;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgColumn, PgConnection, PgRow, PgTypeInfo, PgValueRef};
use sqlx::query::Query;
use sqlx::{
    Column, Decode, Either, Encode, Executor, Postgres, Row as _, SqlSafeStr, Statement as _, Type, TypeInfo,
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
        let columns = match &columns {
            Some(columns) => columns,
            None => columns.insert(Columns::of(&row)),
        };
        let row = columns.decode(&row)?;
        bytes += row.bytes();
        rows.push(row);
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

/// The columns of a result, the same for all its rows.
struct Columns {
    names: Arc<[String]>,
    kinds: Vec<Kind>,
}

#[derive(Clone, Copy)]
enum Kind {
    Boolean,
    Integer2,
    Integer4,
    Integer8,
    Real4,
    Real8,
    Blob,
    Id,
    Text,
    /// No value of it can be taken, only null.
    Other,
}

impl Columns {
    fn of(row: &PgRow) -> Columns {
        let names = row.columns().iter().map(|column| column.name().to_owned()).collect();
        Columns { names, kinds: row.columns().iter().map(kind).collect() }
    }

    fn decode(&self, row: &PgRow) -> Result<Row, sqlx::Error> {
        let values = self.kinds.iter().enumerate().map(|(at, kind)| decode(row, at, *kind));
        Ok(Row::new(self.names.clone(), values.collect::<Result<_, _>>()?))
    }
}

fn kind(column: &PgColumn) -> Kind {
    match column.type_info().name() {
        "BOOL" => Kind::Boolean,
        "INT2" => Kind::Integer2,
        "INT4" => Kind::Integer4,
        "INT8" => Kind::Integer8,
        "FLOAT4" => Kind::Real4,
        "FLOAT8" => Kind::Real8,
        "BYTEA" => Kind::Blob,
        "UUID" => Kind::Id,
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" => Kind::Text,
        _ => Kind::Other,
    }
}

fn decode(row: &PgRow, at: usize, kind: Kind) -> Result<Value, sqlx::Error> {
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(Value::Null);
    }
    let value = match kind {
        Kind::Boolean => read(raw).map(Value::Boolean),
        Kind::Integer2 => read::<i16>(raw).map(|number| Value::Integer(number.into())),
        Kind::Integer4 => read::<i32>(raw).map(|number| Value::Integer(number.into())),
        Kind::Integer8 => read(raw).map(Value::Integer),
        Kind::Real4 => read::<f32>(raw).map(|number| Value::Real(number.into())),
        Kind::Real8 => read(raw).map(Value::Real),
        Kind::Blob => read(raw).map(Value::Blob),
        Kind::Id => read::<Uuid>(raw).map(|id| Value::Text(id.to_string())),
        Kind::Text => read(raw).map(Value::Text),
        Kind::Other => return Err(unknown(row, at)),
    };
    value.map_err(|source| sqlx::Error::ColumnDecode { index: at.to_string(), source })
}

fn read<'r, T: Decode<'r, Postgres>>(raw: PgValueRef<'r>) -> Result<T, BoxDynError> {
    T::decode(raw)
}

fn unknown(row: &PgRow, at: usize) -> sqlx::Error {
    let column = row.columns().get(at);
    let name = column.map(Column::name).unwrap_or_default();
    let type_name = column.map(|column| column.type_info().name()).unwrap_or_default();
    let hint = format!("column {name:?} is of type {type_name}: cast it to text in the statement");
    sqlx::Error::Decode(hint.into())
}
