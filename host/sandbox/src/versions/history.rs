//! States of the versions that this process has seen, most recently changed first.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::id::{Digest, PluginName};
use domain::plugin::{PluginVersion, VersionState};

pub struct History {
    list: Mutex<VecDeque<PluginVersion>>,
    versions_max: usize,
}

impl History {
    pub fn new(versions_max: usize) -> History {
        History { list: Mutex::default(), versions_max }
    }

    pub fn versions(&self) -> Vec<PluginVersion> {
        self.list().iter().cloned().collect()
    }

    /// Records a version's state. Returns the version if the state is new. A full list drops its oldest version
    /// that is not active.
    pub fn record(&self, mut version: PluginVersion) -> Option<PluginVersion> {
        let mut history = self.list();
        let same = |other: &PluginVersion| other.plugin == version.plugin && other.digest == version.digest;
        match history.iter().position(same) {
            Some(at) if history[at].state == version.state => return None,
            Some(at) => version.seen_at = history.remove(at).map_or(version.seen_at, |old| old.seen_at),
            None => {}
        }
        history.push_front(version.clone());
        if history.len() > self.versions_max {
            let old = history.iter().rposition(|version| version.state != VersionState::Active);
            let last = history.len() - 1;
            history.remove(old.unwrap_or(last));
        }
        Some(version)
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
