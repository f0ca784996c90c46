//! Shared by the tests of all crates: a new database of either kind for each case, servers and poolers that
//! end with the test, and the check whether this machine has what a test needs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod database;
mod needs;
mod servers;

use std::future::Future;

pub use database::{Database, Kind, TableLock, execute, try_execute, with_database};
pub use needs::{Need, binary, plugins, postgres_url};
pub use servers::{PgBouncer, Postgres, Relay, at_port, is_root};

/// The argument of a case that runs on both kinds of database.
pub trait Fixture: Sized {
    /// Calls the case with a new fixture, whose database exists until the case has ended.
    fn run<F: Future<Output = ()>>(kind: Kind, case: fn(Self) -> F) -> impl Future<Output = ()>;
}

/// For tests of the whole product, which make their own databases.
impl Fixture for Kind {
    async fn run<F: Future<Output = ()>>(kind: Kind, case: fn(Kind) -> F) {
        if Need::Product.is_met() {
            case(kind).await;
        }
    }
}

/// Runs one case of [`on_both!`].
pub async fn run<T: Fixture, F: Future<Output = ()>>(kind: Kind, case: fn(T) -> F) {
    if kind == Kind::Sqlite || Need::Postgres.is_met() {
        T::run(kind, case).await;
    }
}

/// Generates the tests `sqlite::case` and `postgres::case` for each `async fn case(fixture: T)`, where `T` is
/// a [`Fixture`].
#[macro_export]
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::run($crate::Kind::Sqlite, super::$case).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                $crate::run($crate::Kind::Postgres, super::$case).await;
            })+
        }
    };
}
