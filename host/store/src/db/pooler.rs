//! Finds out whether a pooler lends one server connection to several clients in turns: then settings, LISTEN and prepared
//! statements of one client end up with another one.
//!
//! A pooler does not say so. But a session has one server process (`pg_backend_pid()`) for as long as it lasts, and no two
//! open sessions have the same one. A pooler that is asked by two idle clients in turns lends both the process that became
//! free last, or each time the next one. What cannot be seen: a pooler that by chance, because other clients take the
//! processes in between, gives the same two processes back each time. Then the settings of each connection are the guard.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Row as _};

use super::session::{Refusal, one};

const ROUNDS: u32 = 3;
/// A pooler without a free server connection lets its clients wait for minutes.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// `conn` is an idle connection of these options.
pub async fn check(conn: &mut PgConnection, options: &PgConnectOptions) -> Result<(), Refusal> {
    let mut other = in_time(PgConnection::connect_with(options)).await?;
    let checked = rounds(conn, &mut other).await;
    // The answers count, not how the second connection ends.
    let _ = tokio::time::timeout(ANSWER_TIME_MAX, other.close()).await;
    checked
}

async fn rounds(one: &mut PgConnection, other: &mut PgConnection) -> Result<(), Refusal> {
    let (first, second) = (process(one).await?, process(other).await?);
    for _ in 0..ROUNDS {
        // Twice in a row: a pooler that takes turns has come to the next process.
        same(first, process(one).await?)?;
        same(first, process(one).await?)?;
        same(second, process(other).await?)?;
        if first == second {
            return Err(shared("two open sessions have one server process"));
        }
        // Within a transaction the process is held: another client then gets a different one.
        control(other, "BEGIN").await?;
        let held = process(other).await?;
        let asked = process(one).await;
        control(other, "ROLLBACK").await?;
        same(second, held)?;
        same(first, asked?)?;
    }
    Ok(())
}

fn same(before: i32, now: i32) -> Result<(), Refusal> {
    if before == now { Ok(()) } else { Err(shared("the server process of an open session changed")) }
}

async fn process(conn: &mut PgConnection) -> Result<i32, Refusal> {
    let row = in_time(one(conn, "SELECT CAST(pg_backend_pid() AS text)")).await?;
    let text: String = row.try_get_unchecked(0)?;
    text.parse().map_err(|_| Refusal::Passing(format!("pg_backend_pid() is {text:?}")))
}

async fn control(conn: &mut PgConnection, sql: &'static str) -> Result<(), Refusal> {
    in_time(sqlx::raw_sql(sql).execute(conn)).await.map(|_| ()).map_err(|refusal| {
        // PgBouncer's words, which name the mode.
        if refusal.text().contains("statement pooling") { shared(refusal.text()) } else { refusal }
    })
}

async fn in_time<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Refusal> {
    let late = || {
        Refusal::Passing(format!(
            "a second connection got no answer within {ANSWER_TIME_MAX:?}; behind a pooler, let it open enough server \
             connections for all hosts (PgBouncer: default_pool_size)"
        ))
    };
    Ok(tokio::time::timeout(ANSWER_TIME_MAX, work).await.map_err(|_| late())??)
}

fn shared(how: &str) -> Refusal {
    Refusal::Unusable(format!(
        "a connection pooler in transaction or statement mode is between this host and Postgres ({how}): settings, LISTEN \
         and prepared statements of a session do not hold there; connect to Postgres directly, or let the pooler pool \
         sessions (PgBouncer: pool_mode = session)"
    ))
}
