//! Hosts: one row each, with a heartbeat.

use domain::id::{HostId, Incarnation};
use jiff::Timestamp;

use crate::audit::{Entry, host_actor, write};
use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::sql::hosts;
use crate::store::Store;

#[derive(Debug, Clone)]
pub struct HostView {
    pub id: HostId,
    pub name: String,
    /// Its latest start; `None` if it started before starts were counted.
    pub incarnation: Option<Incarnation>,
    pub started_at: Timestamp,
    pub heartbeat_at: Timestamp,
    pub stopped_at: Option<Timestamp>,
}

/// A process that starts as a host.
#[derive(Debug, Clone)]
pub struct HostStart {
    pub id: HostId,
    pub incarnation: Incarnation,
    pub name: String,
    /// Two processes with the same place cannot run at the same time. Empty if the place is unknown.
    pub place: String,
}

/// The heartbeat of the process that runs under a host's id. It changes with each renewal while that process
/// runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    pub name: String,
    /// Empty for a host from before starts were counted.
    pub incarnation: String,
    pub beats: i64,
}

/// Whether the process that asked for a host's id got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taking {
    Taken,
    /// Another process may run under this id.
    Occupied(Life),
}

impl Store {
    /// Registers a start. Refused while another process may run under the same id, unless its heartbeat is
    /// still `lapsed`: the caller saw no newer heartbeat for the duration of a lease.
    pub async fn take_host(
        &self,
        start: &HostStart,
        lapsed: Option<&Life>,
        now: Timestamp,
    ) -> Result<Taking, StoreError> {
        let (id, incarnation) = (start.id.to_string(), start.incarnation.to_string());
        let (before, beats) = lapsed.map_or(("", -1), |life| (life.incarnation.as_str(), life.beats));
        let mut tx = self.db.begin().await?;
        let args =
            args![id.as_str(), start.name.as_str(), now, incarnation, start.place.as_str(), before, beats];
        if tx.execute(hosts::HOST_TAKE, &args).await? == 0 {
            let life = life(&mut tx, start.id).await?;
            return life
                .map(Taking::Occupied)
                .ok_or_else(|| StoreError::Raced(format!("host {id} was removed while it was looked for")));
        }
        let entry = Entry {
            actor: &host_actor(start.id),
            action: "host_started",
            job: None,
            subject: &id,
            detail: &start.name,
        };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(Taking::Taken)
    }

    /// Records that a start was refused because another process runs under the same id.
    pub async fn refuse_host(
        &self,
        start: &HostStart,
        running: &Life,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let detail = format!(
            "start {} of {:?} was refused: {:?} runs as start {}",
            start.incarnation, start.name, running.name, running.incarnation
        );
        let subject = start.id.to_string();
        let actor = host_actor(start.id);
        let entry =
            Entry { actor: &actor, action: "host_refused", job: None, subject: &subject, detail: &detail };
        self.audit_add(&entry, now).await
    }

    pub async fn host_stopped(
        &self,
        id: HostId,
        incarnation: Incarnation,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let args = args![id.to_string(), now, incarnation.to_string()];
        self.db.execute(hosts::HOST_STOPPED, &args).await.map(|_| ())
    }

    /// Removes the rows of hosts whose last heartbeat is from before `until`.
    pub async fn prune_hosts(&self, own: HostId, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        for row in tx.fetch(hosts::HOSTS_PRUNE, &args![own.to_string(), until]).await? {
            let (id, name) = (row.text("id")?, row.text("name")?);
            let entry = Entry {
                actor: self.own_actor(),
                action: "host_forgotten",
                job: None,
                subject: &id,
                detail: &name,
            };
            write(&mut tx, &entry, now).await?;
        }
        tx.commit().await
    }

    pub async fn hosts(&self, limit: u32) -> Result<Vec<HostView>, StoreError> {
        let view = |row: &Row| {
            Ok(HostView {
                id: row.parse("id")?,
                name: row.text("name")?,
                // Empty if it started before starts were counted.
                incarnation: row.text("incarnation")?.parse().ok(),
                started_at: row.time("started_at_ms")?,
                heartbeat_at: row.time("heartbeat_at_ms")?,
                stopped_at: row.opt_time("stopped_at_ms")?,
            })
        };
        self.db.fetch(hosts::HOSTS_LIST, &args![limit]).await?.iter().map(view).collect()
    }
}

/// Writes a host's heartbeat. Returns the process that took over its id, if one did.
pub(crate) async fn beat(
    tx: &mut Tx,
    id: HostId,
    incarnation: Incarnation,
    now: Timestamp,
) -> Result<Option<Life>, StoreError> {
    let args = args![id.to_string(), now, incarnation.to_string()];
    if tx.execute(hosts::HOST_BEAT, &args).await? == 1 {
        return Ok(None);
    }
    // If there is no row, another host whose clock was far ahead has removed it.
    life(tx, id).await
}

async fn life(tx: &mut Tx, id: HostId) -> Result<Option<Life>, StoreError> {
    let rows = tx.fetch(hosts::HOST_LIFE, &args![id.to_string()]).await?;
    let life = |row: &Row| {
        Ok(Life { name: row.text("name")?, incarnation: row.text("incarnation")?, beats: row.int("beats")? })
    };
    rows.first().map(life).transpose()
}
