//! Hosts: one row each, with a heartbeat.

use domain::id::HostId;
use jiff::Timestamp;

use crate::audit::{Entry, host_actor, write};
use crate::db::{Row, args};
use crate::error::StoreError;
use crate::sql::hosts;
use crate::store::Store;

#[derive(Debug, Clone)]
pub struct HostView {
    pub id: HostId,
    pub name: String,
    pub started_at: Timestamp,
    pub heartbeat_at: Timestamp,
    pub stopped_at: Option<Timestamp>,
}

impl Store {
    pub async fn host_started(&self, id: HostId, name: &str, now: Timestamp) -> Result<(), StoreError> {
        let mut tx = self.db.begin().await?;
        tx.execute(hosts::HOST_PUT, &args![id.to_string(), name, now]).await?;
        let (actor, subject) = (host_actor(id), id.to_string());
        let entry =
            Entry { actor: &actor, action: "host_started", job: None, subject: &subject, detail: name };
        write(&mut tx, &entry, now).await?;
        tx.commit().await
    }

    pub async fn host_stopped(&self, id: HostId, now: Timestamp) -> Result<(), StoreError> {
        self.db.execute(hosts::HOST_STOPPED, &args![id.to_string(), now]).await.map(|_| ())
    }

    /// Removes the rows of hosts that were last heard of before `until`.
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
                started_at: row.time("started_at_ms")?,
                heartbeat_at: row.time("heartbeat_at_ms")?,
                stopped_at: row.opt_time("stopped_at_ms")?,
            })
        };
        self.db.fetch(hosts::HOSTS_LIST, &args![limit]).await?.iter().map(view).collect()
    }
}
