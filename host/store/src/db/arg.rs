//! Arguments of statements, by the names of their parameters.

use domain::id::{AttemptId, HostId, Incarnation, ItemId, RunId};
use domain::scope::Value;
use jiff::Timestamp;
use serde::ser::{Error as _, Serialize, Serializer};
use uuid::Uuid;

use crate::db::sql::resolve::{Constants, Kind, Parameter, Resolved};

/// The arguments of a statement.
pub type Args<'a> = &'a [(&'static str, Arg)];

/// The value of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Arg {
    Value(Value),
    /// Column type `uuid` on Postgres, text on SQLite.
    Id(Uuid),
    Rows(Rows),
}

impl Arg {
    /// Approximate size in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Arg::Value(value) => value.bytes(),
            Arg::Id(_) => size_of::<Uuid>(),
            Arg::Rows(rows) => rows.values.iter().map(Arg::bytes).sum(),
        }
    }
}

/// The rows of a table parameter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    rows: usize,
    values: Vec<Arg>,
}

impl Rows {
    pub fn push<const N: usize>(&mut self, row: [Arg; N]) {
        self.rows += 1;
        self.values.extend(row);
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    fn width(&self) -> usize {
        self.values.len() / self.rows.max(1)
    }

    fn column(&self, at: usize) -> impl Iterator<Item = &Arg> {
        self.values.iter().skip(at).step_by(self.width().max(1))
    }

    /// The columns with the same value in all rows, as in [`Constants`]. If all are, the first one stays an array: its
    /// length is the number of rows.
    ///
    /// Integers other than 0 and 1 do not count. Times and measures are the same by chance, and each combination of
    /// columns is another text.
    fn constant_columns(&self) -> u64 {
        let width = self.width();
        let is_constant = |at: &usize| {
            let first = self.values.get(*at);
            let by_chance =
                matches!(first, Some(Arg::Value(Value::Integer(number))) if !(0..=1).contains(number));
            !by_chance && self.column(*at).all(|value| Some(value) == first)
        };
        let columns = (0..width.min(64)).filter(is_constant).fold(0, |columns, at| columns | 1 << at);
        let all = u64::MAX.checked_shr(64 - u32::try_from(width).unwrap_or(64)).unwrap_or(0);
        if columns == all { columns & !1 } else { columns }
    }
}

impl<const N: usize> FromIterator<[Arg; N]> for Rows {
    fn from_iter<I: IntoIterator<Item = [Arg; N]>>(rows: I) -> Rows {
        let mut all = Rows::default();
        rows.into_iter().for_each(|row| all.push(row));
        all
    }
}

/// An argument as a driver binds it.
#[derive(Debug, Clone)]
pub enum Bound {
    Value(Value),
    Id(Uuid),
    Ids(Vec<Option<Uuid>>),
    Integers(Vec<Option<i64>>),
    Texts(Vec<Option<String>>),
    Blobs(Vec<Option<Vec<u8>>>),
}

impl Bound {
    /// Approximate size in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Bound::Value(value) => value.bytes(),
            Bound::Id(_) => size_of::<Uuid>(),
            Bound::Ids(ids) => ids.len() * size_of::<Uuid>(),
            Bound::Integers(numbers) => numbers.len() * size_of::<i64>(),
            Bound::Texts(texts) => texts.iter().flatten().map(|text| text.len() + 1).sum(),
            Bound::Blobs(blobs) => blobs.iter().flatten().map(|blob| blob.len() + 1).sum(),
        }
    }
}

/// From this number of rows on, constant columns are worth a text of their own. Of few rows, too many columns would be
/// constant by chance.
const CONSTANTS_FROM: usize = 16;

/// The constant columns of the first table among the arguments.
pub fn constants(args: Args<'_>) -> Option<Constants> {
    let tables = args.iter().filter_map(|(table, arg)| match arg {
        Arg::Rows(rows) => Some((*table, rows)),
        Arg::Value(_) | Arg::Id(_) => None,
    });
    let (table, rows) = tables.into_iter().next().filter(|(_, rows)| rows.len() >= CONSTANTS_FROM)?;
    Some(Constants { table, columns: rows.constant_columns() }).filter(|constants| constants.columns != 0)
}

/// The arguments in the order of the statement's parameters. Fails if one is missing, has another shape, or
/// contains a zero byte, which Postgres cannot store. SQLite could, but behaves the same here.
pub fn bind(statement: &Resolved, args: Args<'_>) -> Result<Vec<Bound>, sqlx::Error> {
    unused(statement, args)?;
    statement.parameters.iter().map(|parameter| bind_one(parameter, args)).collect()
}

fn bind_one(parameter: &Parameter, args: Args<'_>) -> Result<Bound, sqlx::Error> {
    let name = parameter.name();
    let found = args.iter().find(|(known, _)| *known == name).map(|(_, arg)| arg);
    match (parameter, found) {
        (Parameter::Value(_), Some(Arg::Value(value))) => {
            checked(value).map(|value| Bound::Value(value.clone()))
        }
        (Parameter::Value(_), Some(Arg::Id(id))) => Ok(Bound::Id(*id)),
        (Parameter::Rows(_), Some(Arg::Rows(rows))) => json(rows).map(|text| Bound::Value(Value::Text(text))),
        (Parameter::Column { at, kind, .. }, Some(Arg::Rows(rows))) => array(rows, *at, *kind),
        (Parameter::Constant { at, kind, .. }, Some(Arg::Rows(rows))) => {
            rows.values.get(*at).map_or(Ok(Bound::Value(Value::Null)), |arg| one(arg, *kind))
        }
        _ => Err(refused(format!("parameter {name:?} has no argument of its shape"))),
    }
}

/// An argument that no parameter takes is a mistake in the code, too.
fn unused(statement: &Resolved, args: Args<'_>) -> Result<(), sqlx::Error> {
    let taken = |name: &str| statement.parameters.iter().any(|parameter| parameter.name() == name);
    match args.iter().find(|(name, _)| !taken(name)) {
        Some((name, _)) => Err(refused(format!("no parameter takes the argument {name:?}"))),
        None => Ok(()),
    }
}

fn array(rows: &Rows, at: usize, kind: Kind) -> Result<Bound, sqlx::Error> {
    let values = || rows.column(at);
    Ok(match kind {
        Kind::Id => Bound::Ids(values().map(id).collect::<Result<_, _>>()?),
        Kind::Integer => Bound::Integers(values().map(integer).collect::<Result<_, _>>()?),
        Kind::Text => Bound::Texts(values().map(text).collect::<Result<_, _>>()?),
        Kind::Blob => Bound::Blobs(values().map(blob).collect::<Result<_, _>>()?),
    })
}

/// A value of a column of this kind.
fn one(arg: &Arg, kind: Kind) -> Result<Bound, sqlx::Error> {
    let bound = match kind {
        Kind::Id => id(arg)?.map(Bound::Id),
        Kind::Integer => integer(arg)?.map(|number| Bound::Value(Value::Integer(number))),
        Kind::Text => text(arg)?.map(|text| Bound::Value(Value::Text(text))),
        Kind::Blob => blob(arg)?.map(|bytes| Bound::Value(Value::Blob(bytes))),
    };
    Ok(bound.unwrap_or(Bound::Value(Value::Null)))
}

fn id(arg: &Arg) -> Result<Option<Uuid>, sqlx::Error> {
    match arg {
        Arg::Id(id) => Ok(Some(*id)),
        Arg::Value(Value::Null) => Ok(None),
        other => Err(unlike("uuid", other)),
    }
}

fn integer(arg: &Arg) -> Result<Option<i64>, sqlx::Error> {
    match arg {
        Arg::Value(Value::Integer(number)) => Ok(Some(*number)),
        Arg::Value(Value::Null) => Ok(None),
        other => Err(unlike("bigint", other)),
    }
}

fn text(arg: &Arg) -> Result<Option<String>, sqlx::Error> {
    match arg {
        Arg::Value(value @ Value::Text(text)) => checked(value).map(|_| Some(text.clone())),
        Arg::Value(Value::Null) => Ok(None),
        Arg::Id(id) => Ok(Some(id.to_string())),
        other => Err(unlike("text", other)),
    }
}

fn blob(arg: &Arg) -> Result<Option<Vec<u8>>, sqlx::Error> {
    match arg {
        Arg::Value(Value::Blob(bytes)) => Ok(Some(bytes.clone())),
        Arg::Value(Value::Null) => Ok(None),
        other => Err(unlike("bytea", other)),
    }
}

/// `[[row], [row]]`; a blob as hexadecimal digits.
fn json(rows: &Rows) -> Result<String, sqlx::Error> {
    serde_json::to_string(&JsonRows(rows)).map_err(|e| refused(e.to_string()))
}

struct JsonRows<'a>(&'a Rows);
struct JsonRow<'a>(&'a [Arg]);
struct JsonArg<'a>(&'a Arg);

impl Serialize for JsonRows<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Rows { values, .. } = self.0;
        to.collect_seq(values.chunks(self.0.width().max(1)).map(JsonRow))
    }
}

impl Serialize for JsonRow<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter().map(JsonArg))
    }
}

impl Serialize for JsonArg<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Arg::Id(id) => to.serialize_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
            Arg::Value(Value::Null) => to.serialize_none(),
            Arg::Value(Value::Integer(number)) => to.serialize_i64(*number),
            Arg::Value(Value::Text(text)) if text.contains('\0') => Err(S::Error::custom(ZERO_BYTE)),
            Arg::Value(Value::Text(text)) => to.serialize_str(text),
            Arg::Value(Value::Blob(bytes)) => {
                to.serialize_str(&bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
            }
            other => Err(S::Error::custom(mismatch("uuid, bigint, text or bytea", other))),
        }
    }
}

const ZERO_BYTE: &str = "a text with a zero byte cannot be stored or searched for";

fn checked(value: &Value) -> Result<&Value, sqlx::Error> {
    match value {
        Value::Text(text) if text.contains('\0') => Err(refused(ZERO_BYTE.to_owned())),
        value => Ok(value),
    }
}

fn unlike(kind: &str, arg: &Arg) -> sqlx::Error {
    refused(mismatch(kind, arg))
}

fn mismatch(kind: &str, arg: &Arg) -> String {
    format!("a column of type {kind} cannot take {arg:?}")
}

fn refused(why: String) -> sqlx::Error {
    sqlx::Error::Encode(why.into())
}

/// Conversion of the host's types to arguments.
pub trait IntoArg {
    fn into_arg(self) -> Arg;
}

impl IntoArg for Arg {
    fn into_arg(self) -> Arg {
        self
    }
}

impl IntoArg for Value {
    fn into_arg(self) -> Arg {
        Arg::Value(self)
    }
}

impl IntoArg for Rows {
    fn into_arg(self) -> Arg {
        Arg::Rows(self)
    }
}

impl IntoArg for i64 {
    fn into_arg(self) -> Arg {
        Arg::Value(Value::Integer(self))
    }
}

impl IntoArg for u32 {
    fn into_arg(self) -> Arg {
        i64::from(self).into_arg()
    }
}

impl IntoArg for bool {
    fn into_arg(self) -> Arg {
        i64::from(self).into_arg()
    }
}

impl IntoArg for &str {
    fn into_arg(self) -> Arg {
        Arg::Value(Value::Text(self.to_owned()))
    }
}

impl IntoArg for String {
    fn into_arg(self) -> Arg {
        Arg::Value(Value::Text(self))
    }
}

impl IntoArg for Timestamp {
    fn into_arg(self) -> Arg {
        self.as_millisecond().into_arg()
    }
}

impl IntoArg for Vec<u8> {
    fn into_arg(self) -> Arg {
        Arg::Value(Value::Blob(self))
    }
}

impl<T: IntoArg> IntoArg for Option<T> {
    fn into_arg(self) -> Arg {
        self.map_or(Arg::Value(Value::Null), IntoArg::into_arg)
    }
}

macro_rules! ids {
    ($($id:ty),*) => { $(impl IntoArg for $id {
        fn into_arg(self) -> Arg {
            Arg::Id(self.0)
        }
    })* };
}
ids!(AttemptId, HostId, Incarnation, ItemId, RunId);

/// `args! { job: name, now: now }`, by the names of the parameters.
macro_rules! args {
    ($($name:ident : $value:expr),+ $(,)?) => {
        [$((stringify!($name), $crate::db::IntoArg::into_arg($value))),+]
    };
}
pub(crate) use args;

/// One row of a table parameter.
macro_rules! row {
    ($($value:expr),* $(,)?) => { [$($crate::db::IntoArg::into_arg($value)),*] };
}
pub(crate) use row;
