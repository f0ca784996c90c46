//! Rows of a table parameter, in portions that one statement each can take.

use domain::limits::MIB;

use super::{Arg, IntoArg, Rows, Tx};
use crate::db::sql::Sql;
use crate::error::StoreError;

/// Maximum bytes of one portion, unless a single row is larger. Even with JSON escaping it stays far below SQLite's
/// limit for a value.
const PORTION_BYTES_MAX: usize = MIB;

/// Rows in their order, cut where a portion is full.
#[derive(Debug, Default)]
pub struct Portions {
    full: Vec<Rows>,
    last: Rows,
    /// Size of the last portion.
    bytes: usize,
}

impl Portions {
    pub fn push<const N: usize>(&mut self, row: [Arg; N]) {
        let bytes: usize = row.iter().map(Arg::bytes).sum();
        if self.bytes + bytes > PORTION_BYTES_MAX && !self.last.is_empty() {
            self.full.push(std::mem::take(&mut self.last));
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.last.push(row);
    }

    /// Runs the statement once for each portion, which it takes as the table `name`. Without rows it runs nothing.
    pub async fn execute(self, tx: &mut Tx, sql: Sql, name: &'static str) -> Result<u64, StoreError> {
        let mut changed = 0;
        for rows in self {
            changed += tx.execute(sql, &[(name, rows.into_arg())]).await?;
        }
        Ok(changed)
    }
}

impl<const N: usize> FromIterator<[Arg; N]> for Portions {
    fn from_iter<I: IntoIterator<Item = [Arg; N]>>(rows: I) -> Portions {
        let mut all = Portions::default();
        rows.into_iter().for_each(|row| all.push(row));
        all
    }
}

impl IntoIterator for Portions {
    type Item = Rows;
    type IntoIter = std::vec::IntoIter<Rows>;

    fn into_iter(mut self) -> Self::IntoIter {
        if !self.last.is_empty() {
            self.full.push(self.last);
        }
        self.full.into_iter()
    }
}
