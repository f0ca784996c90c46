//! Applies edits of the configuration while work is running. A configuration takes effect only after it was
//! read and checked as a whole. Settings that need a restart are reported.

use std::sync::Arc;
use std::time::Duration;

use domain::clock::Clock;
use domain::job::JobSpec;
use engine::Engine;
use jiff::Timestamp;
use store::audit::{Entry, host_actor};
use store::jobs::edits::Edit;
use store::{Store, StoreError};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::{Config, ConfigError, Source, show};

/// Interval of the checks for changes of the file and of the settings made over the API.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Handles that the API needs to change settings.
#[derive(Clone)]
pub struct Live {
    pub source: Source,
    /// Notified when a setting was changed or cleared.
    pub edited: Arc<Notify>,
    /// Notified when a person requests that the file is read again, changed or not.
    pub reload: Arc<Notify>,
}

impl Live {
    pub fn of(source: Source) -> Live {
        Live { source, edited: Arc::default(), reload: Arc::default() }
    }
}

pub struct ConfigReload {
    pub live: Arc<Live>,
    pub engine: Arc<Engine>,
    pub store: Arc<Store>,
    pub clock: Clock,
    /// Requests a rescan of the plugins' versions, because grants may have changed.
    pub plugins: Arc<Notify>,
    pub stop: CancellationToken,
    pub effective: Mutex<Effective>,
}

/// The configuration in effect.
pub struct Effective {
    pub config: Config,
    /// The input that was read last; `None` before the first read.
    pub seen: Option<ConfigInput>,
}

/// The file's bytes and the settings made over the API.
type ConfigInput = (Vec<u8>, Vec<Edit>);

/// Returns the configuration of a starting host: its file (`loaded`) together with the settings made over the
/// API. If they conflict, only the file counts, because a setting can be cleared only while a host runs.
pub async fn at_start(
    source: &Source,
    store: &Store,
    loaded: Config,
    now: Timestamp,
) -> Result<Config, StoreError> {
    let edits = store.jobs().edits().await?;
    let error = match source.load(&edits, now) {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    if !edits.is_empty() {
        tracing::error!("the settings made over the API conflict with the file and are ignored: {error}");
    }
    Ok(loaded)
}

impl ConfigReload {
    /// A missing or unreadable file changes nothing.
    pub async fn run(self: Arc<Self>) {
        let mut effective = self.effective.lock().await;
        let Effective { config: current, seen } = &mut *effective;
        if seen.is_none() {
            *seen = self.read_input().await;
        }
        loop {
            let asked = tokio::select! {
                _ = self.stop.cancelled() => return,
                _ = self.live.reload.notified() => true,
                _ = self.live.edited.notified() => false,
                _ = tokio::time::sleep(LOOK_PERIOD) => false,
            };
            let now = self.read_input().await;
            if now.is_none() && asked {
                self.cannot_look();
            }
            let Some((_, edits)) = now.as_ref().filter(|_| asked || now != *seen) else { continue };
            match self.live.source.load(edits, self.clock.now()) {
                Ok(config) => match self.take(current, &config).await {
                    Ok(changed) => {
                        if asked && !changed {
                            tracing::info!("the configuration was read again: no job changed");
                        }
                        (*current, *seen) = (config, now);
                    }
                    Err(error) => tracing::warn!(%error, "the edited configuration waits for the store"),
                },
                Err(error) => {
                    *seen = now;
                    self.refuse(&error).await;
                }
            }
        }
    }

    /// Returns `None` if the file or the settings cannot be read.
    async fn read_input(&self) -> Option<ConfigInput> {
        Some((std::fs::read(&self.live.source.file).ok()?, self.store.jobs().edits().await.ok()?))
    }

    fn cannot_look(&self) {
        let file = self.live.source.file.display();
        match std::fs::read(&self.live.source.file) {
            Err(error) => tracing::error!(%file, %error, "the configuration cannot be read, nothing changes"),
            Ok(_) => tracing::error!("the configuration is not read again while the store does not answer"),
        }
    }

    /// Applies a configuration. Returns whether a job changed.
    async fn take(&self, before: &Config, now: &Config) -> Result<bool, StoreError> {
        if show::settings(before) != show::settings(now) {
            tracing::warn!("changes outside of [jobs] take effect at the next start");
        }
        let changes = changes(&before.jobs, &now.jobs);
        if changes.is_empty() {
            return Ok(false);
        }
        self.engine.set_jobs(now.jobs.clone()).await?;
        let detail = changes.join(", ");
        tracing::info!(%detail, "the configuration was applied");
        self.audit("config_taken", &detail).await;
        self.plugins.notify_one();
        Ok(true)
    }

    async fn refuse(&self, error: &ConfigError) {
        tracing::error!("the edited configuration is not in effect, nothing changes: {error}");
        self.audit("config_refused", &error.to_string()).await;
    }

    async fn audit(&self, action: &'static str, detail: &str) {
        let subject = self.live.source.file.display().to_string();
        let actor = host_actor(self.engine.host_id());
        let entry = Entry { actor: &actor, action, job: None, subject: &subject, detail };
        if let Err(error) = self.store.audit().add(&entry, self.clock.now()).await {
            tracing::warn!(%error, "the result of a configuration change could not be recorded in the audit trail");
        }
    }
}

/// Describes jobs that are new, changed or removed.
fn changes(before: &[Arc<JobSpec>], now: &[Arc<JobSpec>]) -> Vec<String> {
    let find = |jobs: &[Arc<JobSpec>], job: &JobSpec| jobs.iter().find(|one| one.name == job.name).cloned();
    let differences = now.iter().filter_map(|job| match find(before, job) {
        None => Some(format!("job {} is new", job.name)),
        Some(old) if *old != **job => Some(format!("job {} changed", job.name)),
        Some(_) => None,
    });
    let gone = before.iter().filter(|job| find(now, job).is_none());
    differences.chain(gone.map(|job| format!("job {} is gone", job.name))).collect()
}
