//! Files that are being compiled and described. Each has its own task, so a slow one does not delay other
//! plugins.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use domain::id::{Digest, PluginName};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::seen::Seen;

/// Loads in progress. A load that a scan does not carry over is dropped, which cancels it.
pub type Loads = BTreeMap<(PluginName, Digest), Load>;

pub struct Load {
    pub signature: Option<String>,
    task: AbortOnDropHandle<Seen>,
}

impl Load {
    /// `ended` is notified when the load ends, so that the folder is scanned again.
    pub fn start(
        signature: Option<String>,
        load: impl Future<Output = Seen> + Send + 'static,
        ended: Arc<Notify>,
    ) -> Load {
        let task = async move {
            let seen = load.await;
            ended.notify_one();
            seen
        };
        Load { signature, task: AbortOnDropHandle::new(tokio::spawn(task)) }
    }

    /// The result, or the load itself if it takes longer than `patience`.
    pub async fn within(mut self, patience: Option<Duration>) -> Result<Seen, Load> {
        let task = &mut self.task;
        let ended = match patience {
            Some(patience) => tokio::time::timeout(patience, task).await.ok(),
            None => Some(task.await),
        };
        match ended {
            Some(Ok(seen)) => Ok(seen),
            // A panic of the host is resumed in this scan, as if the load had no task of its own.
            Some(Err(failed)) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            _ => Err(self),
        }
    }
}
