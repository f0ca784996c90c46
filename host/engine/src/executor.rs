//! One attempt of one item, from the claim to the commit.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use domain::alert::{Alert, Severity};
use domain::failure::{ErrorInfo, Failure, HOST_PANIC, SQL_COMMIT};
use domain::item::Claimed;
use domain::job::JobSpec;
use domain::limits::cut;
use domain::outcome::{Outcome, decide};
use domain::reuse::ClaimShare;
use domain::runner::{Call, CallReport, Usage};
use futures_util::FutureExt;
use store::StoreError;
use store::attempts::commit::{AttemptEnd, Committed, Effects};
use store::attempts::scope::{AttemptScope, OwnTx};
use tokio_util::sync::CancellationToken;

use crate::capacity::Slot;
use crate::config::{RACED_REST, STORE_REST};
use crate::ctx::Ctx;
use crate::log_throttle::LogThrottle;
use crate::metrics;
use domain::engine_event::EngineEvent;

static WAITS: LogThrottle = LogThrottle::new();

/// Kind of the alert about a host on which attempts fail.
pub const HOST_FAILED: &str = "HOST_FAILED";

pub async fn execute(
    ctx: &Arc<Ctx>,
    job: Arc<JobSpec>,
    item: Claimed,
    share: Option<ClaimShare>,
    slot: Slot,
    leases: &CancellationToken,
) {
    let never = CancellationToken::new();
    let leases = if job.survives_store_loss() { &never } else { leases };
    let hold = ctx.hold(&job, item.claimed_at);
    let scope = Arc::new(ctx.store.scope_of_attempt(job.clone(), item.clone(), hold));
    let call = Call { job: job.clone(), input: item.clone(), scope: scope.clone(), share };
    let report = tokio::select! {
        biased;
        // Another host may claim the item soon, so the effects of this attempt are dropped. The token
        // may be cancelled already.
        _ = leases.cancelled() => return scope.abort().await,
        report = guarded(ctx, ctx.runner.process(call)) => report,
    };
    let Some((end, own)) = settle(ctx, &job, item, &scope, report).await else { return };
    // Rare paths are boxed: they would make the future of every attempt several times as large.
    if ctx.backpressure.has_new() {
        Box::pin(report_strain(ctx, &job)).await;
    }
    let mut end = Arc::new(end);
    if let Some(own) = own {
        match Box::pin(commit_with(ctx, &job, end, own, leases)).await {
            Some(left) => end = left,
            None => return,
        }
    }
    // A commit takes as long for hundreds of attempts as for one, so the next one starts meanwhile.
    let ending = ctx.capacity.ending(slot);
    ctx.room.notify_one();
    commit(ctx, &job, end, leases).await;
    drop(ending);
}

/// Commits the end together with the attempt's writes to the store's own database. Returns the record that
/// still has to be committed: a failure, if the commit failed or its result is unknown.
async fn commit_with(
    ctx: &Ctx,
    job: &JobSpec,
    end: Arc<AttemptEnd>,
    own: OwnTx,
    leases: &CancellationToken,
) -> Option<Arc<AttemptEnd>> {
    let committed = tokio::select! {
        committed = ctx.store.attempts().end_with(own, &end) => committed,
        _ = leases.cancelled() => return None,
    };
    match committed {
        Ok(Committed::Applied) => tell(ctx, &end),
        Ok(Committed::Stale) => stale(ctx, &end.item),
        Err(error) => {
            tracing::warn!(job = %end.item.job, item = %end.item.key, %error, "an outcome and its SQL were not committed");
            let failure = not_committed(job, &end.item, &error);
            return Some(Arc::new(another_end(ctx, job, &end, failure)));
        }
    }
    None
}

/// Runs a call so that the stop signal can cut it off and a panic of the host ends only this attempt.
pub async fn guarded<T>(ctx: &Ctx, call: impl Future<Output = CallReport<T>>) -> CallReport<T> {
    let ended = |failure| CallReport {
        result: Err(failure),
        digest: None,
        usage: Usage::default(),
        log: String::new(),
    };
    tokio::select! {
        caught = AssertUnwindSafe(call).catch_unwind() => caught.unwrap_or_else(|panic| {
            let why = store::tasks::message(panic.as_ref());
            tracing::error!(%why, "the host panicked in an attempt; please report this");
            ctx.store.tasks().panicked("attempt");
            ended(Failure::host(HOST_PANIC, "the host failed while it ran this attempt; please report it"))
        }),
        _ = ctx.cut.cancelled() => ended(Failure::Interrupted),
    }
}

/// Converts the attempt's report to the record to be written, after committing its
/// transactions on other databases.
async fn settle(
    ctx: &Ctx,
    job: &JobSpec,
    item: Claimed,
    scope: &AttemptScope,
    report: CallReport<Outcome>,
) -> Option<(AttemptEnd, Option<OwnTx>)> {
    let mut own = None;
    let answer = report.result.and_then(|outcome| outcome.checked(item.claimed_at));
    let (result, effects) = match answer {
        Ok(outcome) => match scope.end_but_own().await {
            Ok(Some(ended)) => {
                own = ended.own;
                (Ok(outcome), ended.effects)
            }
            Ok(None) => {
                stale(ctx, &item);
                return None;
            }
            Err(error) => (Err(not_committed(job, &item, &error)), Effects::default()),
        },
        Err(failure) => {
            let contended = scope.contended().await;
            scope.abort().await;
            let failure = match contended {
                Some(why) => beside_others(failure, why),
                None => failure,
            };
            (Err(failure), Effects::default())
        }
    };
    match &result {
        Err(Failure::Host(error)) if error.code == HOST_PANIC => {}
        Err(Failure::Host(error)) => ctx.backpressure.failed(error, ctx.capacity.used()),
        Err(Failure::Interrupted) => {}
        _ => ctx.backpressure.worked(),
    }
    let ended_at = ctx.clock.now();
    let ending = decide(&result, &item, &job.retry, ended_at);
    let end = AttemptEnd {
        item,
        ending,
        effects,
        host: ctx.host(),
        failed_alert: job.failed_alert.clone(),
        digest: report.digest,
        usage: report.usage,
        log: report.log,
        ended_at,
    };
    Some((end, own))
}

/// Raises one alert for each new resource failure of this machine.
pub async fn report_strain(ctx: &Ctx, job: &JobSpec) {
    let Some(what) = ctx.backpressure.take_new() else { return };
    let host = &ctx.config.host_name;
    let alert = Alert {
        kind: HOST_FAILED.to_owned(),
        key: host.clone(),
        severity: Severity::Error,
        message: cut(
            &format!("attempts failed on host {host} and are repeated: {what}"),
            job.limits.text_bytes,
        ),
        metadata: "{}".to_owned(),
    };
    if let Err(error) = ctx.store.alerts().raise(&job.name, &alert, ctx.clock.now()).await {
        tracing::warn!(%error, "the alert about this host was not raised; the next failure raises it");
    }
}

/// The failure for a commit on a business database that did not succeed. If the result of the commit is
/// unknown, the attempt is not counted. It is repeated with the same idempotency key, which lets the business
/// side detect the repetition.
fn not_committed(job: &JobSpec, item: &Claimed, error: &StoreError) -> Failure {
    let said = ErrorInfo::new(SQL_COMMIT, error.to_string());
    match error {
        StoreError::Unavailable(_) | StoreError::Busy(_) => {
            let retry_after = job.retry.delay(item.number(), &item.key);
            Failure::Postponed { retry_after, error: said }
        }
        StoreError::Raced(why) => raced(why.clone()),
        _ => Failure::Transient(said),
    }
}

/// The failure for an attempt whose statements a business database aborted, each time, in favour of other
/// transactions. The attempt is not counted. The repetitions are bounded, because a trigger can raise the
/// same error each time.
fn beside_others(failure: Failure, why: String) -> Failure {
    match failure {
        Failure::Interrupted | Failure::Host(_) => failure,
        _ => Failure::Throttled { retry_after: RACED_REST, error: ErrorInfo::new("sql-contended", why) },
    }
}

/// The guest did nothing wrong and none of its effects were written, so the attempt is repeated with the same
/// idempotency key. A short delay is enough: each race means that another attempt was committed, so races are
/// no more frequent than commits.
fn raced(why: String) -> Failure {
    Failure::Postponed { retry_after: RACED_REST, error: ErrorInfo::new("kv-raced", why) }
}

/// Commits the end. While the store is unavailable, retries until the lease ends.
async fn commit(ctx: &Ctx, job: &JobSpec, mut end: Arc<AttemptEnd>, leases: &CancellationToken) {
    let mut refused = false;
    loop {
        let committed = tokio::select! {
            committed = ctx.store.attempts().end(end.clone()) => committed,
            _ = leases.cancelled() => return,
        };
        match committed {
            Ok(Committed::Applied) => return tell(ctx, &end),
            Ok(Committed::Stale) => return stale(ctx, &end.item),
            Err(StoreError::Unavailable(error)) => {
                if let Some(unsaid) = WAITS.may() {
                    tracing::warn!(job = %end.item.job, item = %end.item.key, %error, unsaid, "an outcome waits for the store");
                }
            }
            // The database rolled it back in favour of another transaction: it is tried again.
            Err(StoreError::Busy(_)) => {}
            Err(StoreError::Raced(why)) => {
                end = Arc::new(another_end(ctx, job, &end, raced(why)));
                continue;
            }
            Err(error) => {
                tracing::error!(job = %end.item.job, item = %end.item.key, %error, "an outcome cannot be written");
                if std::mem::replace(&mut refused, true) {
                    return;
                }
                end = Arc::new(without_content(ctx, job, &end, &error));
                continue;
            }
        }
        tokio::select! {
            _ = tokio::time::sleep(STORE_REST) => {}
            _ = leases.cancelled() => return,
            // The host stops: the item stays unchanged for the next holder.
            _ = ctx.cut.cancelled() => return,
        }
    }
}

/// The end of an attempt whose effects the database refuses, for example a zero byte in a note: a failure
/// without the guest's content. Otherwise the item would stay with this host for ever, and each retry
/// would be refused again.
fn without_content(ctx: &Ctx, job: &JobSpec, end: &AttemptEnd, error: &StoreError) -> AttemptEnd {
    let text = format!("the store rejects the results of this attempt: {error}");
    let failure = Failure::Permanent(ErrorInfo::new("not-written", cut(&text, job.limits.text_bytes)));
    another_end(ctx, job, end, failure)
}

/// The end of the same attempt as a failure, without any effects of the guest.
fn another_end(ctx: &Ctx, job: &JobSpec, end: &AttemptEnd, failure: Failure) -> AttemptEnd {
    let ended_at = ctx.clock.now();
    AttemptEnd {
        item: end.item.clone(),
        ending: decide(&Err(failure), &end.item, &job.retry, ended_at),
        effects: Effects::default(),
        host: end.host,
        failed_alert: end.failed_alert.clone(),
        digest: end.digest,
        usage: end.usage,
        log: String::new(),
        ended_at,
    }
}

fn tell(ctx: &Ctx, end: &AttemptEnd) {
    let AttemptEnd { item, ending, .. } = end;
    if let Some(error) = &ending.error {
        let attempt = item.number();
        tracing::warn!(
            job = %item.job, item = %item.key, attempt, code = %error.code,
            verdict = ending.verdict.as_str(), error = %error.message, "attempt failed"
        );
    }
    ctx.metrics.attempt_ended(end);
}

fn stale(ctx: &Ctx, item: &Claimed) {
    metrics::refused_as_stale(&item.job);
    tracing::warn!(job = %item.job, item = %item.key, epoch = item.epoch, "outcome refused: the item has another holder now");
    ctx.store.feed().publish_here(EngineEvent::AttemptStale { job: item.job.clone(), key: item.key.clone() });
}
