//! Versions of plugins: when each was found and its state, the files of the latest ones, and manual pins.

pub mod releases;
pub(crate) mod sql;
pub mod uploads;

use domain::id::{Digest, HostId, PluginName};
use domain::plugin::PluginVersion;
use jiff::Timestamp;

use crate::audit::{Entry, host_actor, write};
use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::plugins::releases::sql as releases_sql;
use crate::plugins::sql as plugins_sql;
use crate::store::Store;

/// Files that are kept per plugin, in addition to the active and the pinned version.
pub const FILES_KEPT: u32 = 10;

/// A version as recorded by the hosts.
#[derive(Debug, Clone)]
pub struct KnownVersion {
    pub digest: String,
    pub size_bytes: i64,
    pub version: String,
    pub summary: String,
    pub state: String,
    pub reason: Option<String>,
    /// The host that recorded this state, and when.
    pub host: String,
    pub seen_at: Timestamp,
    /// Its requests (imports, statements and so on) as JSON; empty if the plugin could not be queried.
    pub asks: String,
    /// When it last became the active version.
    pub released_at: Option<Timestamp>,
    /// Whether its file is kept, so that it can be activated again.
    pub kept: bool,
}

/// The file of a version and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    pub bytes: Vec<u8>,
    pub signature: Option<String>,
}

/// A person's decision that all hosts run this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub plugin: PluginName,
    pub digest: Digest,
    pub by: String,
    pub since: Timestamp,
}

/// Versions of plugins, and the decisions on them.
#[derive(Clone, Copy)]
pub struct Plugins<'a> {
    pub(crate) store: &'a Store,
}

impl Plugins<'_> {
    /// Records a version's state on a host since `now`, and its cause, with an audit record.
    pub async fn put_version(
        self,
        version: &PluginVersion,
        host: HostId,
        cause: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.db.begin().await?;
        put_version(&mut tx, version, host, now).await?;
        let actor = host_actor(host);
        let action = format!("plugin_{}", version.state.word());
        let why = version.state.reason().unwrap_or(cause);
        let detail = format!("{}: {why}", version.digest);
        let (subject, detail) = (version.plugin.as_str(), detail.trim_end_matches([':', ' ']));
        let entry = Entry { actor: &actor, action: &action, job: None, subject, detail };
        write(&mut tx, &entry, now).await?;
        tx.commit().await
    }

    /// Lists the recorded versions of a plugin, the most recently changed first.
    pub async fn versions(self, plugin: &PluginName, limit: u32) -> Result<Vec<KnownVersion>, StoreError> {
        let rows = self
            .store
            .db
            .fetch(plugins_sql::VERSIONS, &args! { plugin: plugin.as_str(), limit: limit })
            .await?;
        rows.iter().map(known).collect()
    }

    /// Stores the file of a version and removes old files.
    pub async fn keep_file(
        self,
        plugin: &PluginName,
        digest: Digest,
        file: KeptFile,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.db.begin().await?;
        let args = args! {
            plugin: plugin.as_str(),
            digest: digest.to_string(),
            bytes: file.bytes,
            signature: file.signature,
            now: now,
        };
        tx.execute(plugins_sql::FILE_KEEP, &args).await?;
        tx.execute(plugins_sql::FILES_FORGET, &args! { plugin: plugin.as_str(), limit: FILES_KEPT }).await?;
        tx.commit().await
    }

    pub async fn file(self, plugin: &PluginName, digest: Digest) -> Result<Option<KeptFile>, StoreError> {
        let args = args! { plugin: plugin.as_str(), digest: digest.to_string() };
        let rows = self.store.db.fetch(plugins_sql::FILE_GET, &args).await?;
        let file =
            |row: &Row| Ok(KeptFile { bytes: row.blob("bytes")?, signature: row.opt_text("signature")? });
        rows.first().map(file).transpose()
    }

    pub async fn pins(self) -> Result<Vec<Pin>, StoreError> {
        let pin = |row: &Row| {
            Ok(Pin {
                plugin: row.parse("plugin")?,
                digest: row.parse("digest")?,
                by: row.text("by_whom")?,
                since: row.time("since_ms")?,
            })
        };
        self.store.db.fetch(plugins_sql::PINS, &[]).await?.iter().map(pin).collect()
    }

    /// Makes all hosts run this version until the plugin is unpinned, regardless of their plugins folders.
    pub async fn pin(
        self,
        plugin: &PluginName,
        digest: Digest,
        actor: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (name, digest) = (plugin.as_str(), digest.to_string());
        let mut tx = self.store.db.begin().await?;
        let args = args! { plugin: name, digest: digest.as_str() };
        if tx.fetch(plugins_sql::FILE_GET, &args).await?.is_empty() {
            let text = format!(
                "version {digest} of plugin {name} that is kept: it was never stored completely, or is too old"
            );
            return Err(StoreError::NotFound(text));
        }
        let args = args! { plugin: name, digest: digest.as_str(), by: actor, now: now };
        tx.execute(plugins_sql::PIN_PUT, &args).await?;
        tx.execute(releases_sql::RELEASED, &args! { plugin: name, digest: digest.as_str(), now: now })
            .await?;
        let entry = Entry { actor, action: "plugin_pinned", job: None, subject: name, detail: &digest };
        write(&mut tx, &entry, now).await?;
        tx.commit().await
    }

    /// Lets the plugins folders decide again. Returns `false` if the plugin was not pinned.
    pub async fn unpin(self, plugin: &PluginName, actor: &str, now: Timestamp) -> Result<bool, StoreError> {
        let name = plugin.as_str();
        let mut tx = self.store.db.begin().await?;
        let removed = tx.execute(plugins_sql::PIN_REMOVE, &args! { plugin: name }).await?;
        if removed > 0 {
            let entry = Entry { actor, action: "plugin_unpinned", job: None, subject: name, detail: "" };
            write(&mut tx, &entry, now).await?;
        }
        tx.commit().await?;
        Ok(removed > 0)
    }
}

pub(crate) async fn put_version(
    tx: &mut Tx,
    version: &PluginVersion,
    host: HostId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let size = i64::try_from(version.size_bytes).unwrap_or(i64::MAX);
    let args = args! {
        plugin: version.plugin.as_str(),
        digest: version.digest.to_string(),
        size: size,
        version: version.version.as_str(),
        summary: version.summary.as_str(),
        state: version.state.word(),
        reason: version.state.reason(),
        host: host.to_string(),
        now: now,
        asks: asks_of(version)?,
    };
    tx.execute(plugins_sql::VERSION_PUT, &args).await.map(|_| ())
}

/// The requests of a version as JSON; empty if the plugin could not be queried.
pub(crate) fn asks_of(version: &PluginVersion) -> Result<String, StoreError> {
    let asks = version.asks.as_ref().map(serde_json::to_string).transpose();
    Ok(asks.map_err(|e| StoreError::Corrupt(e.to_string()))?.unwrap_or_default())
}

fn known(row: &Row) -> Result<KnownVersion, StoreError> {
    Ok(KnownVersion {
        digest: row.text("digest")?,
        size_bytes: row.int("size_bytes")?,
        version: row.text("version")?,
        summary: row.text("summary")?,
        state: row.text("state")?,
        reason: row.opt_text("reason")?,
        host: row.text("host_id")?,
        seen_at: row.time("seen_at_ms")?,
        asks: row.text("asks")?,
        released_at: row.opt_time("released_at_ms")?,
        kept: row.opt_int("kept_at_ms")?.is_some(),
    })
}
