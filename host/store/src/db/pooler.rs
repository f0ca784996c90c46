//! Detects a pooler that shares one server connection among several clients. With such a pooler, settings,
//! LISTEN and prepared statements of one client end up with another client.
//!
//! A pooler does not announce this. But a session has the same server process (`pg_backend_pid()`) as long as
//! it lasts, and no two open sessions have the same process. If two idle clients send queries alternately, a
//! sharing pooler gives both the process that became free last, or a different process each time. One case is
//! not detected: other clients take the processes in between, and by chance the pooler returns the same two
//! processes each time. In that case the check of each connection's settings is the protection.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Row as _};

use super::session::{Refusal, one};

const ROUNDS: u32 = 3;
/// A pooler without a free server connection makes its clients wait for minutes.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// `conn` is an idle connection with these options.
pub async fn check(conn: &mut PgConnection, options: &PgConnectOptions) -> Result<(), Refusal> {
    let mut other = in_time(PgConnection::connect_with(options)).await?;
    let checked = rounds(conn, &mut other).await;
    // How the second connection closes does not matter.
    let _ = tokio::time::timeout(ANSWER_TIME_MAX, other.close()).await;
    checked
}

async fn rounds(one: &mut PgConnection, other: &mut PgConnection) -> Result<(), Refusal> {
    let (first, second) = (process(one).await?, process(other).await?);
    for _ in 0..ROUNDS {
        // Twice in a row: a pooler that rotates has moved on to the next process.
        same(first, process(one).await?)?;
        same(first, process(one).await?)?;
        same(second, process(other).await?)?;
        if first == second {
            return Err(shared("two open sessions have one server process"));
        }
        // A transaction holds its process, so a pooler gives another client a different one.
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
        // PgBouncer's error message, which names the mode.
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
         and prepared statements of a session are lost there; connect to Postgres directly, or let the pooler pool \
         sessions (PgBouncer: pool_mode = session)"
    ))
}
