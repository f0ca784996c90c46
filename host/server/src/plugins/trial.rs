//! Evaluates versions on trial: adds the results of attempts to the store's counts, and promotes a version or
//! rolls it back.

use std::sync::Arc;
use std::time::Duration;

use domain::id::{Digest, JobName, PluginName};
use domain::release::{CanaryDecision, Candidate, Release, Stage, decide_canary};
use engine::Engine;
use sandbox::Sandbox;
use store::StoreError;
use store::audit::host_actor;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::releases::SharedVersions;

const PERIOD: Duration = Duration::from_secs(1);

pub struct TrialLoop {
    pub versions: Arc<SharedVersions>,
    pub sandbox: Arc<Sandbox>,
    pub engine: Arc<Engine>,
    /// Requests a scan of the plugins folder.
    pub nudge: Arc<Notify>,
    pub stop: CancellationToken,
}

impl TrialLoop {
    pub async fn run(self: Arc<Self>) {
        loop {
            tokio::select! {
                _ = self.stop.cancelled() => return,
                _ = tokio::time::sleep(PERIOD) => {}
            }
            // Only for debugging: the next period tries again, and an unavailable store is reported elsewhere.
            if let Err(error) = self.evaluate().await {
                tracing::debug!(%error, "versions on trial could not be evaluated");
            }
        }
    }

    async fn evaluate(&self) -> Result<(), StoreError> {
        let store = &self.versions.store;
        let mut results = self.sandbox.take_tried().into_iter();
        while let Some(((plugin, digest), tried)) = results.next() {
            if let Err(error) = store.plugins().add_tried(&plugin, digest, &tried).await {
                self.sandbox.give_back_tried(std::iter::once(((plugin, digest), tried)).chain(results));
                return Err(error);
            }
        }
        for release in store.plugins().releases().await? {
            let Release { plugin, stable: Some(stable), candidate: Some(candidate), .. } = release else {
                continue;
            };
            if candidate.stage == Stage::Canary {
                self.decide(&plugin, stable, &candidate).await?;
            }
        }
        Ok(())
    }

    /// Every host evaluates the trial; the first one decides.
    async fn decide(
        &self,
        plugin: &PluginName,
        stable: Digest,
        candidate: &Candidate,
    ) -> Result<(), StoreError> {
        let store = &self.versions.store;
        let tried = store.plugins().tried(plugin).await?;
        let of = |digest| tried.get(&digest).copied().unwrap_or_default();
        let (before, new, now) = (of(stable), of(candidate.digest), self.versions.clock.now());
        let (actor, digest) = (host_actor(self.versions.host), candidate.digest);
        let decided = match decide_canary(
            &self.versions.canary(),
            &before,
            &new,
            now.duration_since(candidate.since),
        ) {
            CanaryDecision::GoOn => false,
            CanaryDecision::Promote => {
                let why = format!("{new}; before it: {before}");
                tracing::info!(%plugin, digest = %digest.short(), %why, "a version on trial is promoted");
                store.plugins().promote_candidate(plugin, digest, (&actor, &why), now).await?
            }
            CanaryDecision::RollBack(why) => {
                tracing::error!(%plugin, digest = %digest.short(), %why, "a version on trial is rolled back");
                store
                    .plugins()
                    .roll_back_candidate(plugin, digest, (&actor, &why), &self.jobs_of(plugin), now)
                    .await?
            }
        };
        if decided {
            self.nudge.notify_one();
        }
        Ok(())
    }

    fn jobs_of(&self, plugin: &PluginName) -> Vec<JobName> {
        let jobs = self.engine.jobs();
        jobs.iter().filter(|job| job.plugin == *plugin).map(|job| job.name.clone()).collect()
    }
}
