//! Presence locks: on Postgres, each process of a host holds one for as long as it lives, in a session of its own. When
//! the process ends, the server ends the session and frees the lock, so other hosts notice the end without waiting for
//! leases.
//!
//! A free lock alone proves nothing: the process may not have taken it yet, or its session was ended and it takes the
//! lock again in a moment. So a watcher counts only locks that were held before in the same session of its own
//! ([`Presence`]): a restart or failover of the server, which frees all locks at once, ends that session as well.

use std::time::{Duration, Instant};

use domain::id::{HostId, Incarnation};
use jiff::Timestamp;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row as _};

use crate::db::{Driver, Refusal, Server, Tx, args};
use crate::error::StoreError;
use crate::hosts::Hosts;
use crate::hosts::sql as hosts_sql;

/// Maximum wait for an answer about the locks of other hosts. After it, the session counts as lost.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
/// Maximum wait for the own lock: an earlier session of this process may still hold it. Longer than the keepalives of
/// [`hosts_sql::PRESENCE_SETTINGS`] need to end that session.
const TAKE_TIME_MAX: Duration = Duration::from_secs(15);
/// How long after the other connections of this process were closed the session moves as well. A wave of errors then
/// costs the lock once.
const MOVE_AFTER: Duration = Duration::from_secs(1);

/// A process that ran, or runs, as a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostProcess {
    pub host: HostId,
    pub incarnation: Incarnation,
    pub name: String,
}

/// A process of another host, and whether it holds its presence lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    pub process: HostProcess,
    pub is_present: bool,
}

/// The session that holds the presence lock of this process, and watches those of other hosts.
#[derive(Debug)]
pub struct Presence {
    conn: PgConnection,
    server: Server,
    made_at: Instant,
    host: HostId,
    /// The server's process behind this session.
    backend: i32,
}

impl Hosts<'_> {
    /// Takes the presence lock of a process. Returns `None` on SQLite, where one process works on the store.
    pub async fn presence(
        self,
        host: HostId,
        incarnation: Incarnation,
    ) -> Result<Option<Presence>, StoreError> {
        let Driver::Postgres(server) = &self.store.db.driver else { return Ok(None) };
        let take = Presence::take(server.clone(), host, incarnation);
        tokio::time::timeout(TAKE_TIME_MAX, take).await.unwrap_or_else(|_| Err(late(TAKE_TIME_MAX))).map(Some)
    }
}

impl Presence {
    async fn take(server: Server, host: HostId, incarnation: Incarnation) -> Result<Presence, StoreError> {
        let made_at = Instant::now();
        let mut conn = server.first().await.map_err(unavailable)?;
        server.prepare(&mut conn).await.map_err(unavailable)?;
        sqlx::raw_sql(hosts_sql::PRESENCE_SETTINGS).execute(&mut conn).await?;
        let taken = sqlx::query(hosts_sql::PRESENCE_TAKE).bind(incarnation.to_string());
        let backend = taken.fetch_one(&mut conn).await?.try_get("backend")?;
        Ok(Presence { conn, server, made_at, host, backend })
    }

    /// Other hosts with a heartbeat since `heartbeat_since` that did not stop. An error means that this session, and
    /// with it the own lock, is lost.
    pub async fn others(&mut self, heartbeat_since: Timestamp) -> Result<Vec<Sighting>, StoreError> {
        let renewed_at = self.server.renewed_at();
        if renewed_at > self.made_at && renewed_at.elapsed() >= MOVE_AFTER {
            let what = "the session may lead to a former primary that still answers";
            return Err(StoreError::Unavailable(what.to_owned()));
        }
        let look = sqlx::query(hosts_sql::PRESENCE_OTHERS);
        let look = look.bind(self.host.to_string()).bind(heartbeat_since.as_millisecond());
        let rows = tokio::time::timeout(ANSWER_TIME_MAX, look.fetch_all(&mut self.conn)).await;
        let rows = rows.map_err(|_| late(ANSWER_TIME_MAX))??;
        let backend: Option<i32> = rows.first().map(|row| row.try_get("backend")).transpose()?;
        if backend != Some(self.backend) {
            let what = "the session moved to another process of the server, without its lock";
            return Err(StoreError::Unavailable(what.to_owned()));
        }
        Ok(rows.iter().filter_map(sighting).collect())
    }

    /// Frees the lock.
    pub async fn end(self) {
        // How the connection closes does not matter.
        let _ = tokio::time::timeout(ANSWER_TIME_MAX, self.conn.close()).await;
    }
}

/// `None` for the row that only shows the session itself, and for a row that a person edited.
fn sighting(row: &PgRow) -> Option<Sighting> {
    let text = |column| row.try_get::<String, _>(column).ok();
    let (host, incarnation) = (text("id")?.parse().ok()?, text("incarnation")?.parse().ok()?);
    let process = HostProcess { host, incarnation, name: text("name")? };
    Some(Sighting { process, is_present: row.try_get("is_present").ok()? })
}

/// Whether the process is still the latest under its host's id, and its lock is free. On Postgres, it cannot take the
/// lock again before this transaction ends.
pub(crate) async fn has_ended(
    tx: &mut Tx,
    host: HostId,
    incarnation: Incarnation,
) -> Result<bool, StoreError> {
    let args = args! { host: host.to_string(), incarnation: incarnation.to_string() };
    Ok(!tx.fetch(hosts_sql::HOST_ENDED, &args).await?.is_empty())
}

fn unavailable(refusal: Refusal) -> StoreError {
    StoreError::Unavailable(refusal.text().to_owned())
}

fn late(most: Duration) -> StoreError {
    StoreError::Unavailable(format!("no answer within {most:?}"))
}
