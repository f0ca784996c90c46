//! Hosts: one row each, with a heartbeat.

pub mod clock;
pub mod presence;
pub(crate) mod sql;

use domain::id::{HostId, Incarnation};
use jiff::Timestamp;

use crate::audit::{Entry, host_actor, write};
use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::hosts::sql as hosts_sql;
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
    pub place: HostLocation,
}

/// Where a process runs, as far as that excludes another process under the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostLocation {
    /// Another process may run anywhere.
    Unknown,
    /// A folder that is locked: no other process runs in the same folder.
    Folder(String),
    /// The store is locked: no other process uses it.
    WholeStore,
}

impl HostLocation {
    fn as_str(&self) -> &str {
        match self {
            HostLocation::Unknown => "",
            HostLocation::Folder(name) => name,
            HostLocation::WholeStore => "the store's file",
        }
    }
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

/// The result of a renewal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewal {
    Renewed,
    /// The leases are renewed, but the host has no row: another host, whose clock was far ahead, removed it.
    Unregistered,
    /// Nothing was renewed: another process has taken over the host's id.
    Displaced(Life),
}

/// Whether a host's id belongs to the process that asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taking {
    Taken,
    /// Another process may run under this id.
    Occupied(Life),
}

/// Hosts of this store, and their clocks.
#[derive(Clone, Copy)]
pub struct Hosts<'a> {
    pub(crate) store: &'a Store,
}

impl Hosts<'_> {
    /// Registers a start, unless another process may run under the same id. A caller that has seen the same [`Life`] for
    /// the time of a lease passes it as `lapsed`: the start is registered if the row still shows it.
    pub async fn take(
        self,
        start: &HostStart,
        lapsed: Option<&Life>,
        now: Timestamp,
    ) -> Result<Taking, StoreError> {
        let (id, incarnation) = (start.id.to_string(), start.incarnation.to_string());
        let (lapsed_incarnation, beats) =
            lapsed.map_or(("", -1), |life| (life.incarnation.as_str(), life.beats));
        let mut tx = self.store.db.begin().await?;
        let former = life(&mut tx, start.id).await?;
        let args = args! {
            host: id.as_str(),
            name: start.name.as_str(),
            now: now,
            incarnation: incarnation.as_str(),
            place: start.place.as_str(),
            lapsed: lapsed_incarnation,
            beats: beats,
            alone: start.place == HostLocation::WholeStore,
        };
        if tx.execute(hosts_sql::HOST_TAKE, &args).await? == 0 {
            let present = life(&mut tx, start.id).await?;
            let removed = || StoreError::Raced(format!("host {id} was removed at the same time"));
            return present.map(Taking::Occupied).ok_or_else(removed);
        }
        let former = former.map(|life| life.incarnation).filter(|former| !former.is_empty());
        let after = former.map_or(String::new(), |former| format!(", after {former}"));
        let entry = Entry {
            actor: &host_actor(start.id),
            action: "host_started",
            job: None,
            subject: &id,
            detail: &format!("{} as {incarnation}{after}", start.name),
        };
        write(&mut tx, &entry, now).await?;
        tx.commit().await?;
        Ok(Taking::Taken)
    }

    /// Records that a start was refused because another process runs under the same id.
    pub async fn refuse(self, start: &HostStart, running: &Life, now: Timestamp) -> Result<(), StoreError> {
        let (name, other) = (&start.name, &running.name);
        let detail =
            format!("{name} as {}, while {other} runs as {}", start.incarnation, running.incarnation);
        let subject = start.id.to_string();
        let actor = host_actor(start.id);
        let entry =
            Entry { actor: &actor, action: "host_refused", job: None, subject: &subject, detail: &detail };
        self.store.audit().add(&entry, now).await
    }

    pub async fn stopped(
        self,
        id: HostId,
        incarnation: Incarnation,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let args = args! { host: id.to_string(), now: now, incarnation: incarnation.to_string() };
        self.store.db.execute(hosts_sql::HOST_STOPPED, &args).await.map(|_| ())
    }

    /// Removes the rows of hosts whose last heartbeat is from before `until`.
    pub async fn prune(self, own: HostId, until: Timestamp, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.store.db.begin().await?;
        for row in tx.fetch(hosts_sql::HOSTS_PRUNE, &args! { own: own.to_string(), before: until }).await? {
            let (id, name) = (row.text("id")?, row.text("name")?);
            let entry = Entry {
                actor: self.store.own_actor(),
                action: "host_forgotten",
                job: None,
                subject: &id,
                detail: &name,
            };
            write(&mut tx, &entry, now).await?;
        }
        tx.commit().await
    }

    pub async fn list(self, limit: u32) -> Result<Vec<HostView>, StoreError> {
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
        self.store.db.fetch(hosts_sql::HOSTS_LIST, &args! { limit: limit }).await?.iter().map(view).collect()
    }
}

/// Shows that a host is alive, if its id is still its own.
pub(crate) async fn beat(
    tx: &mut Tx,
    id: HostId,
    incarnation: Incarnation,
    now: Timestamp,
) -> Result<Renewal, StoreError> {
    let args = args! { host: id.to_string(), now: now, incarnation: incarnation.to_string() };
    if tx.execute(hosts_sql::HOST_BEAT, &args).await? == 1 {
        return Ok(Renewal::Renewed);
    }
    Ok(life(tx, id).await?.map_or(Renewal::Unregistered, Renewal::Displaced))
}

async fn life(tx: &mut Tx, id: HostId) -> Result<Option<Life>, StoreError> {
    let rows = tx.fetch(hosts_sql::HOST_LIFE, &args! { host: id.to_string() }).await?;
    let life = |row: &Row| {
        Ok(Life { name: row.text("name")?, incarnation: row.text("incarnation")?, beats: row.int("beats")? })
    };
    rows.first().map(life).transpose()
}
