//! Loads and calls random components in this process: the sandbox must survive each of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use domain::clock::Clock;
use domain::failure::Failure;
use domain::id::{AttemptId, ItemId, RunId};
use domain::item::Claimed;
use domain::job::JobSpec;
use domain::reuse::ClaimShare;
use domain::runner::{Call, CallReport, PageRequest, Readiness, Runner};
use jiff::Timestamp;
use sandbox::{Sandbox, SandboxConfig};

use crate::nothing::{Nothing, job_with_all};

/// Number of files in the folder at the same time.
const BATCH: usize = 50;
/// Longest time of one call with a limit of 50 ms, on a busy machine.
const CALL_MAX: Duration = Duration::from_secs(5);
/// Maximum growth of this process's memory from the first tenth to the end.
const KEPT_MIB_MAX: i64 = 64;

/// Characters of a reason that are shown: enough to distinguish it from others.
const REASON_SHOWN: usize = 60;

#[derive(Default)]
pub struct Tally {
    components: u32,
    loaded: u32,
    calls: u32,
    /// Calls that returned a result.
    answered: u32,
    panics: u32,
    slowest: Duration,
    kept_mib: i64,
    /// The results of calls, and how often each occurred.
    ends: BTreeMap<String, u32>,
    /// The reasons why components were rejected, by their beginning.
    refused: BTreeMap<String, u32>,
}

impl Tally {
    pub fn print(&self) {
        println!(
            "{{\"components\":{},\"loaded\":{},\"calls\":{},\"answered\":{},\"panics\":{},\"call_ms_max\":{},\"kept_mib\":{}}}",
            self.components,
            self.loaded,
            self.calls,
            self.answered,
            self.panics,
            self.slowest.as_millis(),
            self.kept_mib
        );
    }

    pub fn good(&self) -> bool {
        let proves = self.loaded > 0 && self.calls > self.answered && self.answered > 0;
        proves && self.panics == 0 && self.slowest < CALL_MAX && self.kept_mib < KEPT_MIB_MAX
    }
}

static PANICS: AtomicU32 = AtomicU32::new(0);

/// Runs all components of a folder in batches.
pub async fn run(folder: &Path) -> Tally {
    count_panics();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let plugins = tempfile::tempdir().unwrap();
    let mut config = SandboxConfig::new(plugins.path(), Clock::steady());
    config.load.describe_time = Duration::from_millis(50);
    config.compiles_max = 2;
    let sandbox = Sandbox::new(config, None).unwrap();
    let (mut tally, mut begin) = (Tally::default(), None);
    for batch in files.chunks(BATCH) {
        try_out(&sandbox, plugins.path(), batch, &mut tally).await;
        if begin.is_none() && tally.components as usize >= files.len() / 10 {
            begin = Some(own_mib());
        }
        eprintln!("{} of {} components, {} loaded", tally.components, files.len(), tally.loaded);
    }
    eprintln!("calls ended as {:?}, refused as {:#?}", tally.ends, tally.refused);
    tally.kept_mib = own_mib() - begin.unwrap_or_default();
    tally.panics = PANICS.load(Ordering::Relaxed);
    tally
}

fn count_panics() {
    let shown = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        shown(panic);
    }));
}

async fn try_out(sandbox: &Arc<Sandbox>, folder: &Path, batch: &[PathBuf], tally: &mut Tally) {
    let jobs: Vec<Arc<JobSpec>> = batch
        .iter()
        .map(|file| Arc::new(job_with_all(file.file_stem().unwrap().to_str().unwrap())))
        .collect();
    for file in batch {
        std::fs::copy(file, folder.join(file.file_name().unwrap())).unwrap();
    }
    sandbox.rescan(&jobs).await;
    for (job, file) in jobs.iter().zip(batch) {
        tally.components += 1;
        if let Readiness::Blocked(why) = sandbox.readiness(job) {
            let why = why.split("rejected: ").last().unwrap_or_default();
            let why = why.strip_prefix(&format!("job {}: ", job.name)).unwrap_or(why);
            *tally.refused.entry(why.chars().take(REASON_SHOWN).collect()).or_default() += 1;
        }
        if matches!(sandbox.readiness(job), Readiness::Ready(_)) {
            tally.loaded += 1;
            let input = page_request();
            let call = Call { job: job.clone(), input, scope: Arc::new(Nothing), share: None };
            watch(file, tally, sandbox.discover(call)).await;
            let call = Call { job: job.clone(), input: claimed(job), scope: Arc::new(Nothing), share: None };
            watch(file, tally, sandbox.process(call)).await;
            // The second item uses the instance of the first, if that was resolved.
            for share in ClaimShare::of(2).into_iter().map(Some) {
                let call = Call { job: job.clone(), input: claimed(job), scope: Arc::new(Nothing), share };
                watch(file, tally, sandbox.process(call)).await;
            }
        }
        std::fs::remove_file(folder.join(file.file_name().unwrap())).unwrap();
    }
    sandbox.rescan(&jobs).await;
}

async fn watch<T>(file: &Path, tally: &mut Tally, call: impl Future<Output = CallReport<T>>) {
    let (began, panics) = (Instant::now(), PANICS.load(Ordering::Relaxed));
    let report = call.await;
    tally.calls += 1;
    tally.slowest = tally.slowest.max(began.elapsed());
    let code = report.result.as_ref().err().and_then(Failure::error).map(|error| error.code.as_str());
    tally.answered += u32::from(report.result.is_ok());
    *tally.ends.entry(code.unwrap_or("answered").to_owned()).or_default() += 1;
    if panics != PANICS.load(Ordering::Relaxed) || began.elapsed() >= CALL_MAX {
        eprintln!("{}: {code:?} after {:?}", file.display(), began.elapsed());
    }
}

fn page_request() -> PageRequest {
    let now = Timestamp::now();
    PageRequest {
        run_id: RunId::new(now),
        trigger: "random".to_owned(),
        scheduled_at: None,
        params: None,
        cursor: None,
        limit: 10,
        now,
    }
}

fn claimed(job: &JobSpec) -> Claimed {
    let now = Timestamp::now();
    Claimed {
        id: ItemId::new(now),
        job: job.name.clone(),
        key: "item".to_owned(),
        payload: "{}".to_owned(),
        attempts: 0,
        deferrals: 0,
        series: 1,
        epoch: 1,
        attempt_id: AttemptId::new(now),
        run_id: None,
        found_by: None,
        in_batch: None,
        first_attempt_at: None,
        last_attempt_at: None,
        last_error: None,
        claimed_at: now,
    }
}

fn own_mib() -> i64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<i64>().unwrap() / 1024
}
