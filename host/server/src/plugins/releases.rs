//! Versions of plugins that all hosts share: the store contains their files and the decision
//! which one is active.

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::clock::Clock;
use domain::id::{Digest, HostId, PluginName};
use domain::plugin::{PluginVersion, VersionState};
use domain::release::{Arrival, Canary, Decision, Release, ReleaseRules};
use sandbox::PluginFile;
use store::plugins::releases::NewVersion;
use store::plugins::{KeptFile, Pin};
use store::{Store, StoreError};

pub struct SharedVersions {
    pub store: Arc<Store>,
    pub rules: ReleaseRules,
    /// Several hosts follow the same decisions, although their folders may differ.
    pub shared: bool,
    pub host: HostId,
    pub clock: Clock,
}

/// The release states of all plugins.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReleaseStates {
    pins: Vec<Pin>,
    releases: Vec<Release>,
}

impl ReleaseStates {
    /// The plugins that have a release state or a pin.
    pub fn plugins(&self) -> BTreeSet<PluginName> {
        let released = self.releases.iter().map(|release| &release.plugin);
        released.chain(self.pins.iter().map(|pin| &pin.plugin)).cloned().collect()
    }

    pub fn release(&self, plugin: &PluginName) -> Option<&Release> {
        self.releases.iter().find(|release| release.plugin == *plugin)
    }

    pub fn pin(&self, plugin: &PluginName) -> Option<&Pin> {
        self.pins.iter().find(|pin| pin.plugin == *plugin)
    }

    /// Why this version is in its state.
    pub fn cause(&self, version: &PluginVersion) -> String {
        let (runs, cause) = match (self.pin(&version.plugin), self.release(&version.plugin)) {
            (Some(pin), _) => (Some(pin.digest), format!("pinned by {}", pin.by)),
            (None, Some(release)) => (release.stable, release.cause.clone()),
            (None, None) => return String::new(),
        };
        match (&version.state, runs) {
            (VersionState::Canary, _) => "on trial".to_owned(),
            (VersionState::Retired, Some(runs)) if runs == version.digest => {
                "its file was removed from the plugins folder".to_owned()
            }
            (VersionState::Retired, Some(runs)) => format!("replaced by {}, {cause}", runs.short()),
            _ => cause,
        }
    }
}

impl SharedVersions {
    pub async fn states(&self) -> Result<ReleaseStates, StoreError> {
        Ok(ReleaseStates {
            pins: self.store.plugins().pins().await?,
            releases: self.store.plugins().releases().await?,
        })
    }

    /// Also used for a trial that began under other rules.
    pub fn canary(&self) -> Canary {
        self.rules.canary.unwrap_or(Canary::DEFAULT)
    }

    /// Stores the file of a version. If that fails, the version runs nevertheless.
    pub async fn keep(&self, file: PluginFile) {
        let PluginFile { plugin, digest, bytes, signature } = file;
        let kept = KeptFile { bytes, signature };
        if let Err(error) = self.store.plugins().keep_file(&plugin, digest, kept, self.clock.now()).await {
            let digest = digest.short();
            tracing::warn!(%plugin, %digest, %error, "a version could not be kept in the store: it cannot run again later");
        }
    }

    /// The file of a stored version, or why there is none.
    pub async fn kept(&self, plugin: &PluginName, digest: Digest) -> Result<PluginFile, String> {
        let decided = |why: &str| format!("version {} is to run: {why}", digest.short());
        match self.store.plugins().file(plugin, digest).await {
            Ok(Some(KeptFile { bytes, signature })) => {
                let file = PluginFile::of(plugin.clone(), bytes, signature);
                if file.digest == digest {
                    Ok(file)
                } else {
                    Err(decided("its copy in the store is damaged"))
                }
            }
            Ok(None) => Err(decided("the store has no copy of it")),
            Err(error) => Err(decided(&format!("it cannot be read now: {error}"))),
        }
    }

    /// Lets the store decide about a version in the folder that is not the stable one. Returns why it cannot
    /// decide now.
    pub async fn propose(
        &self,
        version: &PluginVersion,
        wants: &[String],
        arrival: Arrival,
    ) -> Result<Decision, String> {
        let (returns, at_start) = (arrival.may_return(self.shared), arrival == Arrival::AtStart);
        let found = NewVersion { version, wants, returns, at_start, host: self.host };
        let decided = self.store.plugins().decide(&found, &self.rules, self.clock.now()).await;
        decided.map_err(|error| format!("it cannot be decided now whether it runs: {error}"))
    }
}
