//! Placeholders of a statement:
//!
//! - `:name` is one value.
//! - `@name(id uuid, epoch bigint)` is a table of the given columns, of which the caller gives the rows. Postgres
//!   receives one array for each column, SQLite one JSON text. The types are `uuid`, `bigint`, `text` and `bytea`.
//! - `@join(item ON item.id = asked.id)` joins each row to the left with the rows of a table by one of its indexes.
//! - `@target(item ON item.id = asked.id)` is the condition that selects the rows of a table to change, one for
//!   each row to the left, by one of its indexes. More conditions may follow with AND.
//!
//! A statement with `FOR UPDATE` locks the joined rows before it looks at its own WHERE, in the order of the rows to
//! the left. So those are given in the order in which rows have to be locked.
//!
//! `@join` and `@target` fix the order of the join. A plan that was made while the table was empty would read the whole table
//! instead, and connections keep their plans.
//!
//! A driver receives the text with numbered parameters, `$1` and so on.
//!
//! If a column of the first table among the arguments has the same value in all of at least 16 rows, Postgres receives
//! the value once, in another text of the statement: it takes time to receive and unpack each element of an array, and
//! the records of attempts have 20 columns.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{LazyLock, PoisonError, RwLock};

/// A text for one database, and the parameters in the order of their numbers.
#[derive(Debug)]
pub struct Resolved {
    pub text: &'static str,
    pub parameters: Vec<Parameter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter {
    Value(&'static str),
    /// All rows of a table, as one JSON text.
    Rows(&'static str),
    /// One column of a table, as an array.
    Column {
        table: &'static str,
        at: usize,
        kind: Kind,
    },
    /// A column with the same value in all rows.
    Constant {
        table: &'static str,
        at: usize,
        kind: Kind,
    },
}

/// The columns of a table with the same value in all rows: a bit for each, the first column is the lowest bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Constants {
    pub table: &'static str,
    pub columns: u64,
}

impl Parameter {
    pub fn name(&self) -> &'static str {
        match self {
            Parameter::Value(name)
            | Parameter::Rows(name)
            | Parameter::Column { table: name, .. }
            | Parameter::Constant { table: name, .. } => name,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Id,
    Integer,
    Text,
    Blob,
}

impl Kind {
    fn type_name(self) -> &'static str {
        match self {
            Kind::Id => "uuid",
            Kind::Integer => "bigint",
            Kind::Text => "text",
            Kind::Blob => "bytea",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// Texts are constants, so there are few of them, and each is resolved once per process.
static CACHE: LazyLock<RwLock<Cache>> = LazyLock::new(RwLock::default);

/// By address, length and dialect.
type Cache = HashMap<(usize, usize, Dialect), Texts>;

/// The texts of a statement for one database.
struct Texts {
    general: &'static Resolved,
    /// Those for constant columns, the first ones that were needed.
    special: Vec<(Constants, &'static Resolved)>,
}

/// Maximum number of texts for constant columns: each is prepared on each connection.
const SPECIAL_MAX: usize = 8;

/// The text for a database. A text is identified by its address.
pub fn cached(text: &'static str, dialect: Dialect) -> &'static Resolved {
    let key = (text.as_ptr() as usize, text.len(), dialect);
    if let Some(known) = CACHE.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
        return known.general;
    }
    let mut cache = CACHE.write().unwrap_or_else(PoisonError::into_inner);
    cache.entry(key).or_insert_with(|| Texts::new(text, dialect)).general
}

/// The text for Postgres that suits these constant columns best.
pub fn cached_for(text: &'static str, constants: Constants) -> &'static Resolved {
    let key = (text.as_ptr() as usize, text.len(), Dialect::Postgres);
    if let Some(known) = CACHE.read().unwrap_or_else(PoisonError::into_inner).get(&key)
        && let Some(found) = known.find(constants)
    {
        return found;
    }
    let mut cache = CACHE.write().unwrap_or_else(PoisonError::into_inner);
    let known = cache.entry(key).or_insert_with(|| Texts::new(text, Dialect::Postgres));
    known.find(constants).unwrap_or_else(|| {
        let resolved = leak(resolve(text, Dialect::Postgres, Some(constants)));
        known.special.push((constants, resolved));
        resolved
    })
}

impl Texts {
    fn new(text: &'static str, dialect: Dialect) -> Texts {
        Texts { general: leak(resolve(text, dialect, None)), special: Vec::new() }
    }

    /// `None` if there may be a better text than those so far.
    fn find(&self, Constants { table, columns }: Constants) -> Option<&'static Resolved> {
        let exact = |one: &Constants| *one == Constants { table, columns };
        let suits = |one: &Constants| one.table == table && one.columns & !columns == 0;
        if let Some((_, found)) = self.special.iter().find(|(one, _)| exact(one)) {
            return Some(found);
        }
        if self.special.len() < SPECIAL_MAX {
            return None;
        }
        let suitable = self.special.iter().filter(|(one, _)| suits(one));
        let best = suitable.max_by_key(|(one, _)| one.columns.count_ones());
        Some(best.map_or(self.general, |(_, resolved)| resolved))
    }
}

fn leak(resolved: Resolved) -> &'static Resolved {
    Box::leak(Box::new(resolved))
}

fn resolve(text: &'static str, dialect: Dialect, constants: Option<Constants>) -> Resolved {
    let (out, parameters) = (String::with_capacity(text.len()), Vec::new());
    let mut resolver = Resolver { dialect, constants, out, parameters };
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '"', ':', '@']) {
        let (before, special) = rest.split_at(at);
        resolver.out.push_str(before);
        rest = resolver.take(special);
    }
    resolver.out.push_str(rest);
    Resolved { text: resolver.out.leak(), parameters: resolver.parameters }
}

struct Resolver {
    dialect: Dialect,
    constants: Option<Constants>,
    out: String,
    parameters: Vec<Parameter>,
}

impl Resolver {
    /// Takes the placeholder or the quoted text at the beginning. Returns the rest.
    fn take(&mut self, text: &'static str) -> &'static str {
        let (mark, after) = text.split_at(1);
        if mark == "'" || mark == "\"" {
            let end = after.find(mark).map_or(text.len(), |end| end + 2);
            let (quoted, rest) = text.split_at(end);
            self.out.push_str(quoted);
            return rest;
        }
        let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
        let (name, rest) = after.split_at(end);
        let columns = rest.strip_prefix('(').and_then(|rest| rest.split_once(')'));
        match (mark, columns) {
            (_, _) if name.is_empty() => {
                self.out.push_str(mark);
                after
            }
            ("@", Some((condition, rest))) if name == "join" => {
                self.join(condition);
                rest
            }
            ("@", Some((condition, rest))) if name == "target" => {
                self.target(condition);
                rest
            }
            ("@", Some((columns, rest))) => {
                self.table(name, columns);
                rest
            }
            ("@", None) => {
                self.out.push_str(mark);
                after
            }
            _ => {
                let number = self.number(Parameter::Value(name));
                let _ = write!(self.out, "${number}");
                rest
            }
        }
    }

    fn number(&mut self, parameter: Parameter) -> usize {
        let known = self.parameters.iter().position(|known| *known == parameter);
        known.unwrap_or_else(|| {
            self.parameters.push(parameter);
            self.parameters.len() - 1
        }) + 1
    }

    fn table(&mut self, table: &'static str, columns: &'static str) {
        let columns: Vec<(&str, Kind)> = columns.split(',').map(column).collect();
        match self.dialect {
            Dialect::Sqlite => self.json(table, &columns),
            Dialect::Postgres => self.arrays(table, &columns),
        }
    }

    fn join(&mut self, joined: &'static str) {
        let (table, condition) = joined.split_once(" ON ").unwrap_or((joined, "true"));
        let _ = match self.dialect {
            // SQLite does not reorder a CROSS JOIN.
            Dialect::Sqlite => write!(self.out, "CROSS JOIN {table} ON {condition}"),
            // OFFSET 0 keeps the subquery apart.
            Dialect::Postgres => write!(
                self.out,
                "CROSS JOIN LATERAL (SELECT * FROM {table} WHERE {condition} OFFSET 0) AS {table}"
            ),
        };
    }

    fn target(&mut self, target: &'static str) {
        let (table, condition) = target.split_once(" ON ").unwrap_or((target, "true"));
        let _ = match self.dialect {
            Dialect::Sqlite => write!(self.out, "WHERE {condition}"),
            Dialect::Postgres => write!(
                self.out,
                "CROSS JOIN LATERAL (SELECT {table}.ctid AS place FROM {table} WHERE {condition} OFFSET 0) AS located
                WHERE {table}.ctid = located.place"
            ),
        };
    }

    fn json(&mut self, table: &'static str, columns: &[(&'static str, Kind)]) {
        let number = self.number(Parameter::Rows(table));
        let values: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(at, (name, kind))| match kind {
                Kind::Blob => format!("unhex(value ->> {at}) AS {name}"),
                Kind::Id | Kind::Integer | Kind::Text => format!("value ->> {at} AS {name}"),
            })
            .collect();
        let _ = write!(self.out, "(SELECT {} FROM json_each(${number})) AS {table}", values.join(", "));
    }

    fn arrays(&mut self, table: &'static str, columns: &[(&'static str, Kind)]) {
        let constants = self.constants.filter(|constants| constants.table == table);
        let is_constant = |at: usize| constants.is_some_and(|constants| constants.columns >> at & 1 == 1);
        let (mut arrays, mut names, mut selected) = (Vec::new(), Vec::new(), Vec::new());
        for (at, &(name, kind)) in columns.iter().enumerate() {
            let type_name = kind.type_name();
            if is_constant(at) {
                let number = self.number(Parameter::Constant { table, at, kind });
                selected.push(format!("CAST(${number} AS {type_name}) AS {name}"));
            } else {
                let number = self.number(Parameter::Column { table, at, kind });
                arrays.push(format!("CAST(${number} AS {type_name}[])"));
                names.push(name);
                selected.push(name.to_owned());
            }
        }
        let rows = format!("unnest({}) AS {table} ({})", arrays.join(", "), names.join(", "));
        let _ = match constants {
            Some(_) => write!(self.out, "(SELECT {} FROM {rows}) AS {table}", selected.join(", ")),
            None => write!(self.out, "{rows}"),
        };
    }
}

/// Name and type. An unknown type is taken as `text`; Postgres then refuses the statement when it is prepared.
fn column(column: &'static str) -> (&'static str, Kind) {
    let (name, kind) = column.trim().split_once(' ').unwrap_or((column.trim(), "text"));
    let kind = match kind.trim() {
        "uuid" => Kind::Id,
        "bigint" => Kind::Integer,
        "bytea" => Kind::Blob,
        _ => Kind::Text,
    };
    (name, kind)
}
