//! States of the versions that this process has seen, most recently changed first.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::clock::Clock;
use domain::id::{Digest, PluginName};
use domain::plugin::{Asks, PluginVersion, VersionState};

use crate::versions::component::Version;

pub struct History {
    list: Mutex<VecDeque<PluginVersion>>,
    versions_max: usize,
    clock: Clock,
}

impl History {
    pub fn new(versions_max: usize, clock: Clock) -> History {
        History { list: Mutex::default(), versions_max, clock }
    }

    pub fn versions(&self) -> Vec<PluginVersion> {
        self.list().iter().cloned().collect()
    }

    /// Records a version's state. Returns the version if the state is new. A full list drops its oldest version
    /// that is not active.
    pub fn record(&self, plugin: &PluginName, facts: &Facts, state: VersionState) -> Option<PluginVersion> {
        let mut history = self.list();
        let same = |version: &PluginVersion| version.plugin == *plugin && version.digest == facts.digest;
        let seen_at = match history.iter().position(same) {
            Some(at) if history[at].state == state => return None,
            Some(at) => history.remove(at).map(|version| version.seen_at),
            None => None,
        };
        let mut version = self.version(plugin, facts, state);
        version.seen_at = seen_at.unwrap_or(version.seen_at);
        history.push_front(version.clone());
        if history.len() > self.versions_max {
            let old = history.iter().rposition(|version| version.state != VersionState::Active);
            let last = history.len() - 1;
            history.remove(old.unwrap_or(last));
        }
        Some(version)
    }

    /// The version in this state, as if it were seen now for the first time.
    pub fn version(&self, plugin: &PluginName, facts: &Facts, state: VersionState) -> PluginVersion {
        PluginVersion {
            plugin: plugin.clone(),
            digest: facts.digest,
            size_bytes: facts.size_bytes,
            version: facts.said.0.to_owned(),
            summary: facts.said.1.to_owned(),
            asks: facts.asks.clone(),
            state,
            seen_at: self.clock.now(),
        }
    }

    pub fn state(&self, plugin: &PluginName, digest: Digest) -> Option<VersionState> {
        let list = self.list();
        let version = list.iter().find(|version| version.plugin == *plugin && version.digest == digest)?;
        Some(version.state.clone())
    }

    fn list(&self) -> MutexGuard<'_, VecDeque<PluginVersion>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Facts of a file that was seen as a version, also of one that cannot be loaded.
pub struct Facts<'a> {
    pub digest: Digest,
    pub size_bytes: u64,
    /// Its version and its summary, as reported by `describe`.
    pub said: (&'a str, &'a str),
    pub asks: Option<Asks>,
}

impl<'a> Facts<'a> {
    pub fn of(version: &'a Version) -> Facts<'a> {
        let said = (version.describe.version.as_str(), version.describe.summary.as_str());
        Facts { digest: version.digest, size_bytes: version.size_bytes, said, asks: Some(version.asks()) }
    }
}
