//! Versions of plugins that all hosts share: the store contains their files and the decision
//! which one is active.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::clock::Clock;
use domain::id::{Digest, HostId, PluginName};
use domain::plugin::{PluginVersion, VersionState};
use domain::release::{Canary, ReleaseRules, Stage};
use sandbox::{Answer, Arrival, Candidate, Decided, PluginFile, Proposal, Standing, Versions};
use store::plugins::releases::{Decision, NewVersion, Release};
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

/// The release decisions in the store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Standings {
    pins: Vec<Pin>,
    releases: Vec<Release>,
}

impl Standings {
    /// Why this version is in its state.
    pub fn cause(&self, version: &PluginVersion) -> String {
        let pin = self.pins.iter().find(|pin| pin.plugin == version.plugin);
        let release = self.releases.iter().find(|release| release.plugin == version.plugin);
        let (runs, cause) = match (pin, release) {
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
    pub async fn standings(&self) -> Result<Standings, StoreError> {
        Ok(Standings { pins: self.store.plugin_pins().await?, releases: self.store.releases().await? })
    }

    /// Converts the decisions for the sandbox. A pin overrides all other decisions.
    pub fn decided(self: &Arc<Self>, standings: &Standings) -> Decided {
        let released =
            standings.releases.iter().map(|release| (release.plugin.clone(), self.standing(release)));
        let mut plugins: BTreeMap<PluginName, Standing> = released.collect();
        for pin in &standings.pins {
            let standing = Standing { stable: Some(pin.digest), pinned: true, ..Standing::default() };
            plugins.insert(pin.plugin.clone(), standing);
        }
        Decided { plugins, versions: Some(self.clone()), shared: self.shared }
    }

    fn standing(&self, release: &Release) -> Standing {
        let candidate = release.candidate.as_ref().map(|candidate| Candidate {
            digest: candidate.digest,
            share: (candidate.stage == Stage::Canary).then(|| self.canary().share),
        });
        Standing { stable: release.stable, pinned: false, uploaded: release.uploaded, candidate }
    }

    /// Also used for a trial that began under other rules.
    pub fn canary(&self) -> Canary {
        self.rules.canary.unwrap_or(Canary::DEFAULT)
    }
}

#[async_trait]
impl Versions for SharedVersions {
    async fn keep(&self, file: &PluginFile) {
        let kept = KeptFile { bytes: file.bytes.clone(), signature: file.signature.clone() };
        let now = self.clock.now();
        if let Err(error) = self.store.keep_plugin_file(&file.plugin, file.digest, kept, now).await {
            let (plugin, digest) = (&file.plugin, file.digest.short());
            tracing::warn!(%plugin, %digest, %error, "a version could not be kept in the store: it cannot run again later");
        }
    }

    async fn kept(&self, plugin: &PluginName, digest: Digest) -> Result<PluginFile, String> {
        let decided = |why: &str| format!("version {} is to run: {why}", digest.short());
        match self.store.plugin_file(plugin, digest).await {
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

    async fn propose(&self, proposal: Proposal<'_>) -> Result<Answer, String> {
        let Proposal { version, wants, arrival } = proposal;
        // A single host follows its folder at its start, too. With several hosts, an old file may
        // only be left over.
        let returns = match arrival {
            Arrival::Fresh => true,
            Arrival::AtStart => !self.shared,
            Arrival::Old => false,
        };
        let at_start = arrival == Arrival::AtStart;
        let found = NewVersion { version, wants: &wants, returns, at_start, host: self.host };
        let decided = self.store.decide_version(&found, &self.rules, self.clock.now()).await;
        let decision =
            decided.map_err(|error| format!("it cannot be decided now whether it runs: {error}"))?;
        Ok(match decision {
            Decision::Stable => Answer::Run,
            Decision::On(Stage::Canary) => Answer::Try(self.canary().share),
            Decision::On(Stage::Waiting) => Answer::Wait,
            Decision::Replaced => Answer::Leave,
            Decision::Quarantined(why) => Answer::Refuse(why),
        })
    }
}
