//! Takes over edits of the configuration while work is running: read whole, checked first, and only then in effect.
//! What cannot change without a restart is named.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::clock::Clock;
use domain::job::JobSpec;
use engine::Engine;
use store::audit::Entry;
use store::{Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigError, Environment, show};

/// How often the file is looked at.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

pub struct ConfigReload {
    pub file: PathBuf,
    pub environment: Environment,
    pub engine: Arc<Engine>,
    pub store: Arc<Store>,
    pub clock: Clock,
    /// Has the plugins' versions looked at again: grants may be others.
    pub plugins: Arc<Notify>,
    pub stop: CancellationToken,
}

impl ConfigReload {
    /// `current` is what is in effect. A file that is gone or unreadable changes nothing.
    pub async fn run(self, mut current: Config) {
        let mut seen = std::fs::read(&self.file).ok();
        loop {
            tokio::select! {
                _ = self.stop.cancelled() => return,
                _ = tokio::time::sleep(LOOK_PERIOD) => {}
            }
            let now = std::fs::read(&self.file).ok();
            if now == seen || now.is_none() {
                continue;
            }
            seen = now;
            match Config::load(&self.file, &self.environment, self.clock.now()) {
                Ok(config) => match self.take(&current, &config).await {
                    Ok(()) => current = config,
                    Err(error) => {
                        tracing::warn!(%error, "the edited configuration waits for the store");
                        seen = None;
                    }
                },
                Err(error) => self.refuse(&error).await,
            }
        }
    }

    async fn take(&self, before: &Config, now: &Config) -> Result<(), StoreError> {
        if show::settings(before) != show::settings(now) {
            tracing::warn!("what was edited outside of [jobs] takes effect at the next start");
        }
        let changes = changes(&before.jobs, &now.jobs);
        if changes.is_empty() {
            return Ok(());
        }
        self.engine.set_jobs(now.jobs.clone()).await?;
        let detail = changes.join(", ");
        tracing::info!(%detail, "the configuration was taken over");
        self.audit("config_taken", &detail).await;
        self.plugins.notify_one();
        Ok(())
    }

    async fn refuse(&self, error: &ConfigError) {
        tracing::error!("the edited configuration is not in effect, nothing changes: {error}");
        self.audit("config_refused", &error.to_string()).await;
    }

    async fn audit(&self, action: &'static str, detail: &str) {
        let subject = self.file.display().to_string();
        let entry = Entry { actor: "tidemill", action, job: None, subject: &subject, detail };
        if let Err(error) = self.store.audit_add(&entry, self.clock.now()).await {
            tracing::warn!(%error, "the audit trail misses what became of the configuration");
        }
    }
}

/// Jobs that are new, other than before, or gone.
fn changes(before: &[Arc<JobSpec>], now: &[Arc<JobSpec>]) -> Vec<String> {
    let find = |jobs: &[Arc<JobSpec>], job: &JobSpec| jobs.iter().find(|one| one.name == job.name).cloned();
    let told = now.iter().filter_map(|job| match find(before, job) {
        None => Some(format!("job {} is new", job.name)),
        Some(old) if *old != **job => Some(format!("job {} changed", job.name)),
        Some(_) => None,
    });
    let gone = before.iter().filter(|job| find(now, job).is_none());
    told.chain(gone.map(|job| format!("job {} is gone", job.name))).collect()
}
