//! Shared helpers of the tests.

pub mod broker;
pub mod database;
pub mod host;
pub mod http;
pub mod invariants;
pub mod jobs;
pub mod plugins;
pub mod process;
pub mod proxy;
pub mod random;
pub mod site;
pub mod wait;
pub mod webhook;

/// Makes each scenario a test on SQLite and one on Postgres.
macro_rules! on_both {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::support::database::Kind::Sqlite).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::support::database::Kind::Postgres).await;
            })+
        }
    };
}
pub(crate) use on_both;
