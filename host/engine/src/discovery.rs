//! Discovery of a run: requests pages from the plugin and reconciles each page, with its
//! cursor, in one transaction.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::failure::{ErrorInfo, Failure, HOST_PANIC};
use domain::id::JobName;
use domain::job::JobSpec;
use domain::limits::cut;
use domain::run::ClaimedRun;
use domain::runner::{Call, CallReport, Page, PageRequest};
use jiff::Timestamp;
use store::attempts::commit::Committed;
use store::{Decoded, StoreError};

use crate::config::STORE_REST;
use crate::ctx::Ctx;
use crate::executor::{guarded, report_strain};
use crate::heartbeat::HeldClaim;
use crate::log_throttle::LogThrottle;
use crate::metrics;

static WAITS: LogThrottle = LogThrottle::new();

/// Claims each job's oldest waiting run and starts a task for it, one per job. `busy` outlives a failure of
/// this loop, because discoveries continue while the loop is restarted.
pub async fn run(ctx: Arc<Ctx>, busy: Busy) {
    loop {
        let woken = ctx.store.feed().woken();
        if let Err(error) = start_all(&ctx, &busy).await {
            waits(None, &error);
        }
        tokio::select! {
            _ = ctx.stop.cancelled() => return,
            _ = woken => {}
            _ = tokio::time::sleep(ctx.config.poll_period) => {}
        }
    }
}

/// Starts a discovery of each job that has a waiting run and can begin.
async fn start_all(ctx: &Arc<Ctx>, busy: &Busy) -> Result<(), StoreError> {
    if !ctx.may_claim() {
        return Ok(());
    }
    let Decoded { rows: waiting, error } = ctx.store.runs().jobs_to_discover(lapsed_before(ctx)).await?;
    error.inspect(|error| waits(None, error));
    if waiting.is_empty() {
        return Ok(());
    }
    let pauses = ctx.pauses().await;
    for job in ctx.jobs().iter().filter(|job| waiting.contains(&job.name) && ctx.may_claim()) {
        if busy.jobs().contains(&job.name) || !ctx.ready(job) || pauses.covers(job.name.as_str()) {
            continue;
        }
        match ctx.store.runs().claim_lapsed(&job.name, ctx.lease(), lapsed_before(ctx)).await {
            Ok(Some(run)) => {
                busy.jobs().insert(job.name.clone());
                let held = HeldClaim::new(ctx, run.attempt_id);
                let turn =
                    RunningDiscovery { ctx: ctx.clone(), busy: busy.clone(), job: job.clone(), _held: held };
                ctx.attempts.spawn(async move { begin(&turn.ctx, &turn.job, run).await });
            }
            Ok(None) => {}
            // A run that cannot be read must not hold up those of other jobs.
            Err(error) => waits(Some(job), &error),
        }
    }
    Ok(())
}

fn waits(job: Option<&JobSpec>, error: &StoreError) {
    if let Some(unsaid) = WAITS.may() {
        let job = job.map(|job| job.name.as_str());
        tracing::warn!(job, %error, unsaid, "discoveries wait for the store");
    }
}

/// While the clock is not trusted, no lease counts as expired: only runs without a holder are claimed.
fn lapsed_before(ctx: &Ctx) -> Timestamp {
    if ctx.steadiness.tells_lapsed(ctx.config.lease_ttl) { ctx.clock.now() } else { Timestamp::MIN }
}

/// Jobs with a discovery in progress on this host.
#[derive(Clone, Default)]
pub struct Busy(Arc<Mutex<HashSet<JobName>>>);

impl Busy {
    fn jobs(&self) -> MutexGuard<'_, HashSet<JobName>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running discovery of a job. Dropping it frees the job, then wakes the loop.
struct RunningDiscovery {
    ctx: Arc<Ctx>,
    busy: Busy,
    job: Arc<JobSpec>,
    _held: HeldClaim,
}

impl Drop for RunningDiscovery {
    fn drop(&mut self) {
        self.busy.jobs().remove(&self.job.name);
        // Another host may continue a run that was given back.
        self.ctx.store.feed().wake();
    }
}

/// Waits for a free slot first. If the host stops meanwhile, the run is released.
async fn begin(ctx: &Arc<Ctx>, job: &Arc<JobSpec>, run: ClaimedRun) {
    let permit = tokio::select! {
        biased;
        permit = ctx.capacity.for_discovery(job) => permit,
        _ = ctx.stop.cancelled() => None,
    };
    match permit {
        Some(_permit) => discover(ctx, job, run).await,
        None => give_back(ctx, job, &run).await,
    }
}

async fn discover(ctx: &Arc<Ctx>, job: &Arc<JobSpec>, run: ClaimedRun) {
    let result = match pages(ctx, job, &run).await {
        Err(error) if !error.is_passing() => {
            // A repetition would fail in the same way, so the run fails.
            let text = cut(&error.to_string(), job.limits.text_bytes);
            fail(ctx, &run, &Failure::transient("not-written", text)).await
        }
        result => result,
    };
    match result {
        Ok(Done::Complete) => {
            ctx.metrics.run_ended(&job.name, true);
        }
        Ok(Done::Failed(ErrorInfo { code, message })) => {
            tracing::warn!(job = %job.name, run = %run.id, %code, %message, "discovery failed");
            ctx.metrics.run_ended(&job.name, false);
        }
        Ok(Done::Interrupted) => give_back(ctx, job, &run).await,
        Ok(Done::Stale) => tracing::warn!(job = %job.name, run = %run.id, "another host took the run"),
        Err(error) => {
            tracing::warn!(job = %job.name, run = %run.id, %error, "discovery was interrupted by a store error; it is repeated later");
            put_back(ctx, &run).await;
        }
    }
}

async fn give_back(ctx: &Ctx, job: &JobSpec, run: &ClaimedRun) {
    if let Err(error) = ctx.store.runs().release(run).await {
        tracing::warn!(job = %job.name, run = %run.id, %error, "the run could not be released; it is claimed again when its lease expires");
    }
}

/// Releases the run as soon as the store answers. If the store refuses, the run is free when its lease ends.
async fn put_back(ctx: &Ctx, run: &ClaimedRun) {
    loop {
        let rest = ctx.backpressure.rest().unwrap_or_default().max(STORE_REST);
        tokio::select! {
            _ = tokio::time::sleep(rest) => {}
            _ = ctx.stop.cancelled() => {}
        }
        if ctx.cut.is_cancelled() {
            return;
        }
        match ctx.store.runs().release(run).await {
            Err(error) if error.is_passing() => {}
            _ => return,
        }
    }
}

enum Done {
    Complete,
    Failed(ErrorInfo),
    Interrupted,
    Stale,
}

async fn pages(ctx: &Arc<Ctx>, job: &Arc<JobSpec>, run: &ClaimedRun) -> Result<Done, StoreError> {
    let mut cursor = ctx.store.runs().page_cursor(run.id).await?;
    for _ in 0..job.limits.pages_per_run {
        let report = page(ctx, job, run, cursor.clone()).await;
        let page = match report.result {
            Ok(page) => page,
            Err(Failure::Interrupted) => return Ok(Done::Interrupted),
            // A panic of the host would occur again at each repetition, so it fails the run.
            Err(Failure::Host(error)) if error.code != HOST_PANIC => {
                ctx.backpressure.failed(&error, ctx.capacity.used());
                report_strain(ctx, job).await;
                return Err(StoreError::Unavailable(error.message));
            }
            Err(failure) => return fail(ctx, run, &failure).await,
        };
        if page.next.is_some() && page.next == cursor {
            let text = format!(
                "discover returned the cursor {:?} that it was called with",
                page.next.unwrap_or_default()
            );
            return fail(ctx, run, &Failure::transient("cursor-stuck", text)).await;
        }
        ctx.backpressure.worked();
        let digest = report.digest.map(|digest| digest.to_string());
        let now = ctx.clock.now();
        let (committed, _) = ctx.store.runs().put_page(run, job, &page, digest.as_deref(), now).await?;
        if committed == Committed::Stale {
            return Ok(Done::Stale);
        }
        cursor = page.next;
        if cursor.is_none() {
            // A page of this run may have been refused, on this host or an earlier one.
            let error = ctx.store.runs().get(run.id).await?.and_then(|run| run.error);
            return Ok(error.map_or(Done::Complete, Done::Failed));
        }
    }
    let text = format!("discover did not end after {} pages", job.limits.pages_per_run);
    fail(ctx, run, &Failure::transient("too-many-pages", text)).await
}

async fn page(
    ctx: &Arc<Ctx>,
    job: &Arc<JobSpec>,
    run: &ClaimedRun,
    cursor: Option<String>,
) -> CallReport<Page> {
    let now = ctx.clock.now();
    let scope = Arc::new(ctx.store.scope_of_discovery(job.clone(), now, ctx.hold(job, now)));
    let limit = job.limits.items_per_page;
    let input = PageRequest {
        run_id: run.id,
        trigger: run.trigger.clone(),
        scheduled_at: run.scheduled_at,
        params: run.params.clone(),
        cursor,
        limit,
        now,
    };
    let call = Call { job: job.clone(), input, scope: scope.clone(), share: None };
    let report = guarded(ctx, ctx.runner.discover(call)).await;
    scope.abort().await;
    metrics::call_ended(&job.name, &report.usage);
    report
}

async fn fail(ctx: &Ctx, run: &ClaimedRun, failure: &Failure) -> Result<Done, StoreError> {
    let unknown = ErrorInfo::new("unknown", "discovery failed");
    let error = failure.error().cloned().unwrap_or(unknown);
    match ctx.store.runs().fail_discovery(run, &error, ctx.clock.now()).await? {
        Committed::Applied => Ok(Done::Failed(error)),
        Committed::Stale => Ok(Done::Stale),
    }
}
