//! The open store: connections, the committer and the feed of events.

use std::sync::OnceLock;

use domain::address::Address;
use domain::id::HostId;
use jiff::Timestamp;

use crate::alerts::Alerts;
use crate::answers::Answers;
use crate::answers::Running;
use crate::attempts::Attempts;
use crate::attempts::commit::Committer;
use crate::attempts::datasource::Datasources;
use crate::attempts::locks::Locks;
use crate::attempts::quota::RowQuota;
use crate::audit::Audit;
use crate::audit::host_actor;
use crate::config::StoreConfig;
use crate::db::{Db, Driver};
use crate::error::StoreError;
use crate::events::Outbox;
use crate::feed::Feed;
use crate::history::History;
use crate::host_feed::Exchange;
use crate::hosts::Hosts;
use crate::items::Items;
use crate::items::batches::Batches;
use crate::items::claims::floors::Floors;
use crate::items::claims::held_claims::HeldClaims;
use crate::jobs::Jobs;
use crate::opening::connect;
use crate::opening::schema::Opening;
use crate::opening::sql as opening_sql;
use crate::opening::store_id::{self, Remembered};
use crate::opening::work_copy::{Progress, Report};
use crate::opening::{leftover, migrate};
use crate::plugins::Plugins;
use crate::runs::Runs;
use crate::tasks::Tasks;
use crate::tokens::Tokens;

pub struct Store {
    pub(crate) db: Db,
    pub(crate) datasources: Datasources,
    pub(crate) committer: Committer,
    pub(crate) floors: Floors,
    pub(crate) held_claims: HeldClaims,
    pub(crate) quota: RowQuota,
    pub(crate) running: Running,
    /// The actor of audit records about this process's own actions.
    own_actor: OnceLock<String>,
    exchange: Exchange,
    tasks: Tasks,
    id: String,
}

impl Store {
    /// Connects, checks and migrates.
    pub async fn open(config: &StoreConfig) -> Result<Store, StoreError> {
        Store::open_as(config, Opening::UPGRADE).await
    }

    /// Opens the store for a host whose data folder was used with the store `known`, if with any.
    pub async fn open_known(
        config: &StoreConfig,
        opening: Opening,
        known: Option<&Remembered>,
    ) -> Result<Store, StoreError> {
        Store::open_reporting(config, opening, known, &Progress::log).await
    }

    /// Like [`Store::open_known`], with the progress of an upgrade to `report` instead of the log.
    pub async fn open_reporting(
        config: &StoreConfig,
        opening: Opening,
        known: Option<&Remembered>,
        report: Report<'_>,
    ) -> Result<Store, StoreError> {
        let store = Store::opened(config, opening, known, report).await?;
        if let (Opening::Upgrade { .. }, Driver::Sqlite { writer, .. }) = (opening, &store.db.driver)
            && let Some(guard) = writer.guard()
        {
            leftover::mark(writer, guard.real()).await?;
        }
        Ok(store)
    }

    /// Connects and checks, and creates or upgrades the tables if `opening` says so.
    pub async fn open_as(config: &StoreConfig, opening: Opening) -> Result<Store, StoreError> {
        Store::opened(config, opening, None, &Progress::log).await
    }

    async fn opened(
        config: &StoreConfig,
        opening: Opening,
        known: Option<&Remembered>,
        report: Report<'_>,
    ) -> Result<Store, StoreError> {
        if let Some(known) = known
            && !config.is_postgres()
        {
            store_id::check_file(&config.url, known).await?;
        }
        let mut db = connect::connect(config, opening).await?;
        db.feed = Feed::default();
        connect::check_version(&db).await?;
        if let (Some(known), Driver::Postgres(_)) = (known, &db.driver) {
            store_id::check(&db, known).await?;
        }
        if let Opening::Upgrade { .. } = opening {
            migrate::run(&db, report).await?;
        }
        let id = store_id::settle(&db, known).await?;
        let tasks = Tasks::default();
        let exchange = match &db.driver {
            Driver::Postgres(server) if config.notify => Exchange::start(&db.feed, server, &tasks),
            Driver::Postgres(_) => Exchange::polling(&db.feed, &tasks),
            Driver::Sqlite { .. } => Exchange::default(),
        };
        Ok(Store {
            datasources: Datasources::new(&config.datasources, &config.url, db.file())?,
            id,
            committer: Committer::start(db.clone(), &tasks),
            floors: Floors::default(),
            held_claims: HeldClaims::default(),
            quota: RowQuota::default(),
            running: Running::default(),
            own_actor: OnceLock::new(),
            exchange,
            tasks,
            db,
        })
    }

    /// Sets this host as the actor of audit records about the process's own actions.
    pub fn acts_as(&self, host: HostId) {
        self.own_actor.get_or_init(|| host_actor(host));
    }

    /// Until the host has its id, the program's name is the actor.
    pub(crate) fn own_actor(&self) -> &str {
        self.own_actor.get().map_or("tidemill", String::as_str)
    }

    pub fn items(&self) -> Items<'_> {
        Items { store: self }
    }

    pub fn batches(&self) -> Batches<'_> {
        Batches { store: self }
    }

    pub fn runs(&self) -> Runs<'_> {
        Runs { store: self }
    }

    pub fn jobs(&self) -> Jobs<'_> {
        Jobs { store: self }
    }

    pub fn attempts(&self) -> Attempts<'_> {
        Attempts { store: self }
    }

    pub fn locks(&self) -> Locks<'_> {
        Locks { store: self }
    }

    pub fn outbox(&self) -> Outbox<'_> {
        Outbox { store: self }
    }

    pub fn alerts(&self) -> Alerts<'_> {
        Alerts { store: self }
    }

    pub fn audit(&self) -> Audit<'_> {
        Audit { store: self }
    }

    pub fn answers(&self) -> Answers<'_> {
        Answers { store: self }
    }

    pub fn history(&self) -> History<'_> {
        History { store: self }
    }

    pub fn hosts(&self) -> Hosts<'_> {
        Hosts { store: self }
    }

    pub fn plugins(&self) -> Plugins<'_> {
        Plugins { store: self }
    }

    pub fn tokens(&self) -> Tokens<'_> {
        Tokens { store: self }
    }

    /// The events of all committed changes.
    pub fn feed(&self) -> &Feed {
        &self.db.feed
    }

    /// The time of the database's clock, which all hosts share.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let rows = self.db.fetch(opening_sql::NOW, &[]).await?;
        let row =
            rows.first().ok_or_else(|| StoreError::Corrupt("the database returned no time".to_owned()))?;
        row.time("now_ms")
    }

    /// The id of the store, which its backups share.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The supervised background loops of this process.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Checks that the database responds.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.db.fetch(opening_sql::VERSION, &[]).await.map(|_| ())
    }

    /// The reason why this host recently failed to connect to its database, though existing connections may
    /// still work.
    pub fn connection_trouble(&self) -> Option<String> {
        self.db.trouble()
    }

    /// Commits all queued ends, then closes the connections.
    pub async fn close(&self) {
        self.committer.stop().await;
        self.exchange.stop().await;
        self.datasources.close().await;
        self.db.close().await;
    }
}

/// A URL for people to read, without its secrets.
pub fn hide_password(url: &str) -> String {
    Address::new(url).to_string()
}
