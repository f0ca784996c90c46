//! Files that are being compiled and described, each by a task of its own: one that takes long holds up no other plugin.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use domain::id::{Digest, PluginName};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::seen::Seen;

/// What is left out of one look is not wanted any more, and ends.
pub type Loads = BTreeMap<(PluginName, Digest), Load>;

pub struct Load {
    pub signature: Option<String>,
    task: AbortOnDropHandle<Seen>,
}

impl Load {
    /// `ended` is told when it is time for another look.
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

    /// What came of it; itself if that takes longer.
    pub async fn within(mut self, patience: Option<Duration>) -> Result<Seen, Load> {
        let task = &mut self.task;
        let ended = match patience {
            Some(patience) => tokio::time::timeout(patience, task).await.ok(),
            None => Some(task.await),
        };
        match ended {
            Some(Ok(seen)) => Ok(seen),
            // A panic of the host: it is this look's, as if it had no task of its own.
            Some(Err(failed)) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            _ => Err(self),
        }
    }
}
