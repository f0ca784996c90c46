//! Versions of plugins that came over the API instead of from a folder.

use domain::id::HostId;
use domain::plugin::PluginVersion;

use crate::audit::{Entry, write};
use crate::db::args;
use crate::error::StoreError;
use crate::plugins::{FILES_KEPT, KeptFile, asks_of};
use crate::sql::{plugins, releases};
use crate::store::Store;

impl Store {
    /// Keeps a version that passed every check on this host, and has all hosts run it. Each of them says when it does;
    /// until then it is noted as one that does not run.
    pub async fn upload_plugin(
        &self,
        version: &PluginVersion,
        file: KeptFile,
        host: HostId,
        actor: &str,
    ) -> Result<(), StoreError> {
        let PluginVersion { plugin, seen_at: now, .. } = version;
        let (name, digest) = (plugin.as_str(), version.digest.to_string());
        let size = i64::try_from(version.size_bytes).unwrap_or(i64::MAX);
        let (called, summary) = (version.version.as_str(), version.summary.as_str());
        let note =
            args![name, digest.as_str(), size, called, summary, host.to_string(), *now, asks_of(version)?];
        let mut tx = self.db.begin().await?;
        tx.execute(plugins::FILE_KEEP, &args![name, digest.as_str(), file.bytes, file.signature, *now])
            .await?;
        tx.execute(plugins::VERSION_NOTE, &note).await?;
        tx.execute(plugins::PIN_PUT, &args![name, digest.as_str(), actor, *now]).await?;
        tx.execute(releases::RELEASED, &args![name, digest.as_str(), *now]).await?;
        tx.execute(plugins::FILES_FORGET, &args![name, FILES_KEPT]).await?;
        for action in ["plugin_uploaded", "plugin_pinned"] {
            let entry = Entry { actor, action, job: None, subject: name, detail: &digest };
            write(&mut tx, &entry, *now).await?;
        }
        tx.commit().await
    }
}
