//! Which version of a plugin was seen when, and what became of it.

use domain::id::HostId;
use domain::plugin::{PluginVersion, VersionState};

use crate::audit::{Entry, write};
use crate::db::args;
use crate::error::StoreError;
use crate::sql::hosts;
use crate::store::Store;

impl Store {
    /// Keeps a version's state, and who saw it, with its line in the trail.
    pub async fn put_plugin_version(&self, version: &PluginVersion, host: HostId) -> Result<(), StoreError> {
        let (state, reason) = match &version.state {
            VersionState::Active => ("active", None),
            VersionState::Retired => ("retired", None),
            VersionState::Rejected(reason) => ("rejected", Some(reason.as_str())),
        };
        let digest = version.digest.to_string();
        let size = i64::try_from(version.size_bytes).unwrap_or(i64::MAX);
        let args = args![
            version.plugin.as_str(),
            digest.as_str(),
            size,
            version.version.as_str(),
            version.summary.as_str(),
            state,
            reason,
            host.to_string(),
            version.seen_at
        ];
        let mut tx = self.db.begin().await?;
        tx.execute(hosts::PLUGIN_PUT, &args).await?;
        let actor = format!("host:{host}");
        let action = format!("plugin_{state}");
        let detail = format!("{digest} {}", reason.unwrap_or_default());
        let subject = version.plugin.as_str();
        let entry = Entry { actor: &actor, action: &action, job: None, subject, detail: &detail };
        write(&mut tx, &entry, version.seen_at).await?;
        tx.commit().await
    }
}
