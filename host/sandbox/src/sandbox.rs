//! The sandbox's interface for the engine: a `Runner`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use domain::failure::{ErrorInfo, Failure};
use domain::id::{Digest, PluginName};
use domain::item::Claimed;
use domain::job::JobSpec;
use domain::outcome::Outcome;
use domain::plugin::PluginVersion;
use domain::release::TrialResults;
use domain::reuse::Kept;
use domain::runner::{Call, CallReport, Page, PageRequest, Readiness, Runner, Usage};
use domain::scope::Scope;
use jiff::SignedDuration;

use crate::config::SandboxConfig;
use crate::engine::Wasm;
use crate::error::SandboxError;
use crate::guest::attempt::{CallRequest, CallResult, CallSlots, Reuse};
use crate::guest::convert;
use crate::guest::http::Clients;
use crate::guest::instance::Instance;
use crate::guest::log::LogSource;
use crate::guest::state::{AttemptContext, AttemptTag, SharedResources};
use crate::versions::active_versions::Chosen;
use crate::versions::canaries::Canaries;
use crate::versions::catalog::Catalog;
use crate::versions::component::{Loader, StatementCheck};
use crate::versions::folder::PluginFile;
use crate::versions::report::{ScanReport, Trouble};
use crate::versions::scan::Scan;
use crate::versions::trial::Trial;
use crate::versions::version::Version;

/// Delay before the next attempt if a plugin has no active version.
const NOT_READY_RETRY: SignedDuration = SignedDuration::from_secs(10);

pub struct Sandbox {
    room: Arc<CallSlots>,
    catalog: Catalog,
    canaries: Canaries,
    calls_max: u32,
}

impl Sandbox {
    /// The plugins folder may be missing: a scan reports its problems.
    pub fn new(
        config: SandboxConfig,
        statements: Option<Arc<dyn StatementCheck>>,
    ) -> Result<Arc<Sandbox>, SandboxError> {
        let Wasm { engine, linker, calls_max } = Wasm::start(config.attempts_max)?;
        let clients = Clients::new(&config.certificates).map_err(SandboxError::Tls)?;
        let outside = SharedResources { clock: config.clock.clone(), clients: Arc::new(clients) };
        let room = Arc::new(CallSlots::new(engine, outside, calls_max));
        let loader = Loader::new(config.clone(), room.clone(), linker);
        let catalog = Catalog::new(config, loader, statements);
        Ok(Arc::new(Sandbox { room, catalog, canaries: Canaries::default(), calls_max }))
    }

    /// Begins a scan of the plugins folder for these jobs, or reports why the folder cannot be read. `patience`
    /// bounds the wait for each compilation; a longer one is taken over by a later scan. `None` waits for all.
    pub async fn scan<'a>(
        &'a self,
        jobs: &'a [Arc<JobSpec>],
        patience: Option<Duration>,
    ) -> Result<Scan<'a>, ScanReport> {
        Scan::open(&self.catalog, jobs, patience).await
    }

    /// Activates each usable file of the plugins folder, without the release decisions of a store: for tests
    /// and benchmarks.
    pub async fn rescan(&self, jobs: &[Arc<JobSpec>]) -> ScanReport {
        match self.scan(jobs, None).await {
            Ok(scan) => scan.activate_all().await,
            Err(report) => report,
        }
    }

    /// Resolves when a compilation ended that a scan did not wait for.
    pub async fn loaded(&self) {
        self.catalog.loaded.notified().await;
    }

    /// Cancels running compilations, so that no compiler process remains.
    pub async fn stop_loading(&self) {
        self.catalog.loads.lock().await.running.clear();
    }

    /// All known versions, most recently changed first.
    pub fn versions(&self) -> Vec<PluginVersion> {
        self.catalog.history.versions()
    }

    /// Problems of the plugins folder, as of the last scan.
    pub fn trouble(&self) -> Arc<Trouble> {
        self.catalog.trouble.load_full()
    }

    /// Results of attempts while two versions ran side by side, since the last call.
    pub fn take_tried(&self) -> BTreeMap<(PluginName, Digest), TrialResults> {
        self.canaries.take()
    }

    /// Returns results that could not be stored.
    pub fn give_back_tried(&self, results: impl IntoIterator<Item = ((PluginName, Digest), TrialResults)>) {
        self.canaries.give_back(results);
    }

    /// The name of the memory allocation strategy.
    pub fn allocator(&self) -> &'static str {
        "pooling"
    }

    /// Concurrent calls that this host has address space for: the configured number or fewer.
    pub fn calls_max(&self) -> u32 {
        self.calls_max
    }

    /// The active version, for a comparison with another one.
    pub fn running(&self, plugin: &PluginName) -> Option<Trial> {
        self.catalog.active(plugin).map(Trial::of)
    }

    /// Loads a version separately, with the same checks as for these jobs, or returns the reason for a
    /// refusal. The version is not registered anywhere; dropping it unloads it.
    pub async fn try_out(&self, file: PluginFile, jobs: &[Arc<JobSpec>]) -> Result<Trial, String> {
        self.catalog.try_out(file, jobs).await
    }

    /// The use of the pool's slots.
    #[cfg(any(test, feature = "measuring"))]
    pub(crate) fn pool_metrics(&self) -> Option<wasmtime::PoolingAllocatorMetrics> {
        self.room.engine().pooling_allocator_metrics()
    }

    #[cfg(feature = "measuring")]
    pub(crate) fn active(&self, job: &JobSpec) -> Option<Arc<Version>> {
        self.catalog.active(&job.plugin)
    }

    #[cfg(feature = "measuring")]
    pub(crate) fn room(&self) -> &CallSlots {
        &self.room
    }

    /// The largest accepted plugin file.
    pub fn component_bytes_max(&self) -> usize {
        self.catalog.config.load.component_size
    }

    /// One attempt on this version, whichever version is active.
    pub async fn replay(&self, trial: &Trial, call: Call<Claimed>) -> CallReport<Outcome> {
        let subject = format!("replay of {}", call.input.key);
        self.process_on(trial.version(), subject, call).await
    }

    async fn process_on(
        &self,
        version: &Arc<Version>,
        subject: String,
        mut call: Call<Claimed>,
    ) -> CallReport<Outcome> {
        let share = call.share.take().map(|mut share| (share.start(), share));
        let (reuse, share) = match share {
            Some((kept, share)) => {
                (Reuse::Of(kept.and_then(|kept| usable(kept, version, &call.job))), Some(share))
            }
            None => (Reuse::Never, None),
        };
        let Call { job, input, scope, .. } = call;
        let epoch = input.epoch;
        let item = convert::item(&job, input);
        let fence = AttemptTag { epoch, idempotency_key: item.idempotency_key.clone() };
        let request = CallRequest { reuse, ..Sandbox::request(version, &job, scope, subject, Some(fence)) };
        let mut ran = self
            .room
            .call(request, |plugin, store| {
                Box::pin(async move { plugin.tidemill_job_job().call_process(store, &item).await })
            })
            .await;
        let instance = ran.instance.take();
        let limits = &job.limits;
        let report = report(version, ran, |answer| match answer {
            Ok(outcome) => convert::outcome(outcome, limits),
            Err(failure) => Err(convert::failure(failure, limits)),
        });
        if report.result.is_ok()
            && let (Some(share), Some(instance)) = (share, instance)
        {
            share.keep(Box::new(KeptInstance { instance, version: version.clone(), job }));
        }
        report
    }

    pub(crate) fn request<'a>(
        version: &'a Version,
        job: &'a Arc<JobSpec>,
        scope: Arc<dyn Scope>,
        subject: String,
        fence: Option<AttemptTag>,
    ) -> CallRequest<'a> {
        let log_source = LogSource { job: job.name.to_string(), subject };
        let describe = version.describe.clone();
        let granted = Some(AttemptContext { job: job.clone(), describe, scope, fence });
        CallRequest { plugin: &version.pre, limits: &job.limits, granted, log_source, reuse: Reuse::Never }
    }

    fn not_ready<T>(&self, job: &JobSpec) -> CallReport<T> {
        let error = ErrorInfo::new("plugin-not-ready", self.catalog.why_blocked(&job.plugin));
        CallReport {
            // The guest was not called, so this is neither counted nor limited.
            result: Err(Failure::Postponed { retry_after: NOT_READY_RETRY, error }),
            digest: None,
            usage: Usage::default(),
            log: String::new(),
        }
    }
}

/// An instance that an item left for the next item of its claim.
struct KeptInstance {
    instance: Instance,
    version: Arc<Version>,
    job: Arc<JobSpec>,
}

/// The instance, if it is one of this version and was made for the job as it is configured now.
fn usable(kept: Kept, version: &Arc<Version>, job: &Arc<JobSpec>) -> Option<Instance> {
    let kept = kept.downcast::<KeptInstance>().ok()?;
    let same = Arc::ptr_eq(&kept.version, version) && Arc::ptr_eq(&kept.job, job);
    same.then_some(kept.instance)
}

#[async_trait]
impl Runner for Sandbox {
    fn readiness(&self, job: &JobSpec) -> Readiness {
        match self.catalog.active(&job.plugin) {
            Some(version) => Readiness::Ready(version.digest),
            None => Readiness::Blocked(self.catalog.why_blocked(&job.plugin)),
        }
    }

    async fn discover(&self, call: Call<PageRequest>) -> CallReport<Page> {
        let Some(version) = self.catalog.active(&call.job.plugin) else {
            return self.not_ready(&call.job);
        };
        let Call { job, input, scope, .. } = call;
        let page = convert::page_request(&job, &input);
        let request = Sandbox::request(&version, &job, scope, format!("run {}", input.run_id), None);
        let ran = self
            .room
            .call(request, |plugin, store| {
                Box::pin(async move { plugin.tidemill_job_job().call_discover(store, &page).await })
            })
            .await;
        let limits = &job.limits;
        report(&version, ran, |answer| match answer {
            Ok(page) => convert::page(page, input.limit, limits),
            Err(failure) => Err(convert::failure(failure, limits)),
        })
    }

    async fn process(&self, call: Call<Claimed>) -> CallReport<Outcome> {
        let Some(Chosen { version, counts }) = self.catalog.choose(&call.job, &call.input.key) else {
            return self.not_ready(&call.job);
        };
        let report = self.process_on(&version, call.input.key.clone(), call).await;
        if counts {
            self.canaries.note(&version, &report);
        }
        report
    }
}

fn report<W, T>(
    version: &Version,
    ran: CallResult<W>,
    convert: impl FnOnce(W) -> Result<T, Failure>,
) -> CallReport<T> {
    let result = match (ran.result.and_then(convert), ran.host_failure) {
        // A guest's failure after a failure of its host is not its fault.
        (Err(failure), Some(error)) if !matches!(failure, Failure::Interrupted | Failure::Host(_)) => {
            Err(Failure::Host(error))
        }
        (result, _) => result,
    };
    CallReport { result, digest: Some(version.digest), usage: ran.usage, log: ran.log }
}
