//! Loads of files, in progress and finished. Each load has its own task, so a slow one does not delay other
//! plugins.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use domain::id::{Digest, PluginName};
use domain::plugin::{PluginVersion, VersionState};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use crate::versions::version::Version;

/// The loads of one scan, for the next one.
#[derive(Default)]
pub struct Loads {
    pub results: BTreeMap<(PluginName, Digest), LoadResult>,
    /// A load that a scan does not carry over is dropped, which cancels it.
    pub running: BTreeMap<(PluginName, Digest), RunningLoad>,
}

/// The result of loading a file's bytes. Valid as long as the bytes are the same.
#[derive(Clone)]
pub struct LoadResult {
    pub digest: Digest,
    pub size_bytes: u64,
    pub signature: Option<String>,
    /// Why the file has no trusted signature.
    pub unsigned: Option<String>,
    /// A version that can be called, or the reason why the file was rejected.
    pub loaded: Result<Arc<Version>, String>,
    /// Remaining attempts to load it. Zero unless the failure was temporary.
    pub tries_left: u32,
}

impl LoadResult {
    /// A file that is too large to be read. Checked again at each scan, although the limit does not change
    /// while this host runs.
    pub fn too_large(digest: Digest, size_bytes: u64, why: String) -> LoadResult {
        LoadResult { digest, size_bytes, signature: None, unsigned: None, loaded: Err(why), tries_left: 0 }
    }

    /// The host's record of this file, if it was seen now for the first time.
    pub fn record(&self, plugin: &PluginName, state: VersionState, now: Timestamp) -> PluginVersion {
        match &self.loaded {
            Ok(version) => version.record(state, now),
            Err(_) => PluginVersion {
                plugin: plugin.clone(),
                digest: self.digest,
                size_bytes: self.size_bytes,
                version: String::new(),
                summary: String::new(),
                asks: None,
                state,
                seen_at: now,
            },
        }
    }
}

/// A file that is being compiled and described.
pub struct RunningLoad {
    pub signature: Option<String>,
    task: AbortOnDropHandle<LoadResult>,
}

impl RunningLoad {
    /// `ended` is notified when the load ends, so that the folder is scanned again.
    pub fn start(
        signature: Option<String>,
        load: impl Future<Output = LoadResult> + Send + 'static,
        ended: Arc<Notify>,
    ) -> RunningLoad {
        let task = async move {
            let result = load.await;
            ended.notify_one();
            result
        };
        RunningLoad { signature, task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }

    /// The result, or the load itself if it takes longer than `patience`.
    pub async fn within(mut self, patience: Option<Duration>) -> Result<LoadResult, RunningLoad> {
        let task = &mut self.task;
        let ended = match patience {
            Some(patience) => tokio::time::timeout(patience, task).await.ok(),
            None => Some(task.await),
        };
        match ended {
            Some(Ok(result)) => Ok(result),
            // A panic of the host is resumed in this scan, as if the load had no task of its own.
            Some(Err(failed)) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            _ => Err(self),
        }
    }
}
