//! Every case that needs a world runs on SQLite and on Postgres.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

/// Makes two tests of each case: `sqlite::case` and `postgres::case`, each with a new, empty world.
macro_rules! on_both {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                let home = super::super::support::Home::sqlite();
                super::$case(home.create().await).await;
                home.remove().await;
            })*
        }
        mod postgres {
            $(#[tokio::test]
            async fn $case() {
                let home = super::super::support::Home::postgres().await;
                super::$case(home.create().await).await;
                home.remove().await;
            })*
        }
    };
}

mod mpc;
mod pure;
mod support;
mod world;
