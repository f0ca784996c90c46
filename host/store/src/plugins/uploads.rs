//! Versions of plugins that were uploaded over the API.

use domain::id::{Digest, HostId};
use domain::plugin::PluginVersion;
use domain::release::{Decision, ReleaseRules};
use jiff::Timestamp;

use crate::audit::{Entry, write};
use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::plugins::Plugins;
use crate::plugins::releases::sql as releases_sql;
use crate::plugins::releases::{By, NewVersion, decide, locked};
use crate::plugins::sql as plugins_sql;
use crate::plugins::{FILES_KEPT, KeptFile, asks_of};

/// The result of uploading a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uploaded {
    /// It was already the stable version.
    Unchanged,
    /// Decided by the release rules, like a file in a plugins folder.
    Decided(Decision),
    /// The version is kept but not activated, because the plugin is pinned to the given version.
    Pinned(Digest),
}

impl Plugins<'_> {
    /// Stores a version that passed every check on this host, and applies the release rules, as for a new file
    /// in a plugins folder. A quarantined version is not stored.
    pub async fn upload(
        self,
        version: &PluginVersion,
        file: KeptFile,
        host: HostId,
        rules: &ReleaseRules,
        actor: &str,
        now: Timestamp,
    ) -> Result<Uploaded, StoreError> {
        let mut tx = self.store.db.begin().await?;
        keep(&mut tx, version, file, host, now).await?;
        let (name, digest) = (version.plugin.as_str(), version.digest.to_string());
        let entry = Entry { actor, action: "plugin_uploaded", job: None, subject: name, detail: &digest };
        write(&mut tx, &entry, now).await?;
        let pinned = tx.fetch(plugins_sql::PIN_OF, &args! { plugin: name }).await?;
        let pinned: Option<Digest> = pinned.first().map(|row: &Row| row.parse("digest")).transpose()?;
        let stable = locked(&mut tx, &version.plugin).await?.and_then(|release| release.stable);
        let uploaded = match pinned {
            Some(pinned) => Uploaded::Pinned(pinned),
            None if stable == Some(version.digest) => Uploaded::Unchanged,
            None => {
                let cause = format!("uploaded by {actor}");
                let found = NewVersion { version, wants: &[], returns: true, at_start: false, host };
                Uploaded::Decided(decide(&mut tx, &found, rules, &By { actor, cause: &cause }, now).await?)
            }
        };
        if matches!(uploaded, Uploaded::Decided(Decision::Quarantined(_))) {
            return Ok(uploaded);
        }
        tx.execute(releases_sql::UPLOADED, &args! { plugin: name, digest: digest.as_str(), now: now })
            .await?;
        tx.execute(plugins_sql::FILES_FORGET, &args! { plugin: name, limit: FILES_KEPT }).await?;
        tx.commit().await?;
        Ok(uploaded)
    }
}

/// Stores the file, and records the version as inactive. Each host that activates it records that later.
async fn keep(
    tx: &mut Tx,
    version: &PluginVersion,
    file: KeptFile,
    host: HostId,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (name, digest) = (version.plugin.as_str(), version.digest.to_string());
    let size = i64::try_from(version.size_bytes).unwrap_or(i64::MAX);
    let (called, summary) = (version.version.as_str(), version.summary.as_str());
    let note = args! {
        plugin: name,
        digest: digest.as_str(),
        size: size,
        version: called,
        summary: summary,
        host: host.to_string(),
        now: now,
        asks: asks_of(version)?,
    };
    let args = args! {
        plugin: name,
        digest: digest.as_str(),
        bytes: file.bytes,
        signature: file.signature,
        now: now,
    };
    tx.execute(plugins_sql::FILE_KEEP, &args).await?;
    tx.execute(plugins_sql::VERSION_NOTE, &note).await.map(|_| ())
}
