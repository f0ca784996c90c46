//! The contents of the page, as plain text and numbers: the templates only arrange and escape it.

use std::collections::BTreeSet;

use askama::Template;
use domain::id::PluginName;
use domain::item::State;
use domain::job::JobSpec;
use domain::plugin::{PluginVersion, VersionState};
use domain::release::{Release, Stage};
use domain::runner::Readiness;
use jiff::{SignedDuration, Timestamp};
use store::StoreError;
use store::alerts::AlertView;
use store::events::delivery::DeadEvent;
use store::items::{ItemCount, ItemView};
use store::jobs::pauses::Pauses;
use store::plugins::KnownVersion;
use store::runs::RunView;
use store::runs::results::RunResult;

use super::bar::{Part, parts};
use crate::api::path;
use crate::config::text::show_bytes;
use crate::health::{self, ANSWER_TIME_MAX, Condition, Problem};
use crate::state::AppState;

const ALERTS_SHOWN: u32 = 10;
const DEAD_SHOWN: u32 = 10;
const RUNS_SHOWN: usize = 20;
/// Number of runs that are searched for those with work.
const RUNS_LOOKED_AT: u32 = 500;
const FAILURES_SHOWN: usize = 10;
const VERSIONS_SHOWN: usize = 20;
/// Versions of a plugin that are searched for waiting ones.
const VERSIONS_LOOKED_AT: u32 = 100;
/// The same number as in `Digest::short`.
const DIGITS_SHOWN: usize = 12;
/// Recently changed items of each state that are searched for failures.
const FAILURES_LOOKED_AT: u32 = 50;
/// Longer texts are truncated in tables.
const TEXT_BYTES_SHOWN: usize = 300;
/// Length limit of a version's new requirements, one per line, or of the reason why it does not run.
const REASON_BYTES_SHOWN: usize = 4_000;

#[derive(Template)]
#[template(path = "overview.html")]
pub struct Overview {
    version: String,
    host: String,
    now: String,
    allocator: String,
    ready: bool,
    problems: Vec<String>,
    jobs: Vec<JobCard>,
    alerts: Vec<AlertRow>,
    dead: Vec<DeadRow>,
    redrive: String,
    runs: Vec<RunRow>,
    failures: Vec<FailureRow>,
    versions: Vec<VersionRow>,
}

struct JobCard {
    name: String,
    plugin: String,
    version: String,
    schedule: String,
    next_due: Option<String>,
    paused: Option<String>,
    blocked: Option<String>,
    parts: Vec<Part>,
}

struct AlertRow {
    id: String,
    acknowledge: String,
    severity: &'static str,
    kind: String,
    job: String,
    times: u32,
    last: String,
    message: String,
}

struct DeadRow {
    id: String,
    topic: String,
    key: String,
    job: String,
    tries: u32,
    since: String,
    error: String,
}

struct RunRow {
    job: String,
    started: String,
    by: String,
    state: String,
    total: u32,
    current: u32,
    success: u32,
    failed: u32,
    last: Option<String>,
    summary: String,
    error: Option<String>,
}

struct FailureRow {
    id: String,
    retry: String,
    resolve: String,
    abandon: String,
    job: String,
    key: String,
    state: &'static str,
    attempts: u32,
    last: String,
    next: String,
    error: String,
}

struct VersionRow {
    plugin: String,
    version: String,
    digest: String,
    size: String,
    seen: String,
    state: &'static str,
    /// Why it does not run, or what it waits for.
    reason: Option<String>,
    /// The path of the request that approves it, if it waits for approval.
    approve: Option<String>,
    /// The whole digest, for that request.
    named: String,
}

/// A version that waits for approval, from the store: this host may not have its file.
struct Waits {
    plugin: PluginName,
    version: KnownVersion,
    wants: String,
}

#[derive(Default)]
struct FromStore {
    waiting: Vec<Waits>,
    pauses: Pauses,
    counts: Vec<ItemCount>,
    alerts: Vec<AlertView>,
    dead: Vec<DeadEvent>,
    runs: Vec<(RunView, RunResult)>,
    failures: Vec<ItemView>,
}

/// The whole overview. An unavailable store is shown on it and is not an error.
pub async fn overview(state: &AppState, version: &str) -> Overview {
    let now = state.clock.now();
    let mut problems = health::problems(state).await;
    let late = |_| Err(StoreError::Unavailable(format!("no answer within {ANSWER_TIME_MAX:?}")));
    let stored = tokio::time::timeout(ANSWER_TIME_MAX, read(state)).await.unwrap_or_else(late);
    let stored = stored.unwrap_or_else(|error| {
        problems.push(Problem::new(Condition::StoreUnavailable, error.to_string()));
        FromStore::default()
    });
    let card = |job: &JobSpec| {
        let readiness = state.engine.readiness(job);
        job_card(job, readiness, &stored, now)
    };
    let mut versions = state.sandbox.versions();
    let elsewhere = waiting_rows(&stored.waiting, &mut versions, now);
    Overview {
        version: version.to_owned(),
        host: state.engine.host_id().to_string(),
        now: format!("{now:.0}"),
        allocator: state.sandbox.allocator().to_owned(),
        ready: health::is_ready(&problems),
        problems: health::texts(&problems),
        jobs: state.engine.jobs().iter().map(|job| card(job)).collect(),
        alerts: stored.alerts.into_iter().map(|alert| alert_row(alert, now)).collect(),
        dead: stored.dead.into_iter().map(|dead| dead_row(dead, now)).collect(),
        redrive: path(&["outbox", "redrive"]),
        runs: stored.runs.into_iter().map(|(run, result)| run_row(run, result, now)).collect(),
        failures: stored.failures.into_iter().map(|item| failure_row(item, now)).collect(),
        versions: elsewhere.into_iter().chain(version_rows(versions, now)).collect(),
    }
}

async fn read(state: &AppState) -> Result<FromStore, StoreError> {
    let pauses = state.store.jobs().pauses().await?;
    let counts = state.store.items().counts().await?;
    let alerts = state.store.alerts().list(true, ALERTS_SHOWN).await?;
    let dead = state.store.outbox().dead(DEAD_SHOWN).await?;
    let runs = runs(state).await?;
    let mut failures = Vec::new();
    for of in [State::ManualRequired, State::Scheduled, State::Awaiting] {
        match state.store.items().list(None, Some(of), FAILURES_LOOKED_AT).await {
            // The payloads are too large here; the list of items shows them, a few at a time.
            Err(StoreError::TooLarge(_)) => {}
            items => failures.extend(items?),
        }
    }
    failures.retain(|item| item.error.is_some());
    failures.sort_by_key(|item| std::cmp::Reverse(item.updated_at));
    failures.truncate(FAILURES_SHOWN);
    let waiting = waiting(state).await?;
    Ok(FromStore { waiting, pauses, counts, alerts, dead, runs, failures })
}

async fn waiting(state: &AppState) -> Result<Vec<Waits>, StoreError> {
    let mut waiting = Vec::new();
    for Release { plugin, candidate, .. } in state.store.plugins().releases().await? {
        let Some(candidate) = candidate.filter(|candidate| candidate.stage == Stage::Waiting) else {
            continue;
        };
        let digest = candidate.digest.to_string();
        let known = state.store.plugins().versions(&plugin, VERSIONS_LOOKED_AT).await?;
        if let Some(version) = known.into_iter().find(|version| version.digest == digest) {
            waiting.push(Waits { plugin, version, wants: candidate.wants.join("\n") });
        }
    }
    Ok(waiting)
}

/// The newest run of each job that found work. Runs without work are not interesting.
async fn runs(state: &AppState) -> Result<Vec<(RunView, RunResult)>, StoreError> {
    let mut runs = state.store.runs().list(None, RUNS_LOOKED_AT).await?;
    runs.retain(|run| run.discovered.queued > 0 || run.error.is_some() || run.finished_at.is_none());
    let mut seen = BTreeSet::new();
    runs.retain(|run| seen.insert(run.job.clone()));
    runs.truncate(RUNS_SHOWN);
    let mut shown = Vec::with_capacity(runs.len());
    for run in runs {
        if let Some(result) = state.store.runs().result(run.id).await? {
            shown.push((run, result));
        }
    }
    Ok(shown)
}

fn job_card(job: &JobSpec, readiness: Readiness, stored: &FromStore, now: Timestamp) -> JobCard {
    let (version, blocked) = match readiness {
        Readiness::Ready(digest) => (digest.short(), None),
        Readiness::Blocked(why) => (String::new(), Some(shorten(&why))),
    };
    let paused = stored.pauses.of(job.name.as_str());
    let own: Vec<&ItemCount> = stored.counts.iter().filter(|count| count.job == job.name).collect();
    JobCard {
        name: job.name.to_string(),
        plugin: job.plugin.to_string(),
        version,
        schedule: job.schedule.to_string(),
        next_due: job.next_after(now).map(|due| until(now, due)),
        paused: paused.map(|pause| shorten(&format!("{}, {}", pause.by, ago(now, pause.since)))),
        blocked,
        parts: parts(&own),
    }
}

fn alert_row(found: AlertView, now: Timestamp) -> AlertRow {
    let id = found.id.to_string();
    AlertRow {
        acknowledge: path(&["alerts", &id, "acknowledge"]),
        id,
        severity: found.alert.severity.as_str(),
        kind: shorten(&found.alert.kind),
        job: found.job.to_string(),
        times: found.times,
        last: ago(now, found.last_at),
        message: shorten(&found.alert.message),
    }
}

fn dead_row(dead: DeadEvent, now: Timestamp) -> DeadRow {
    DeadRow {
        id: dead.event.id.to_string(),
        topic: shorten(&dead.event.topic),
        key: shorten(&dead.event.key),
        job: dead.event.job.to_string(),
        tries: dead.tries,
        since: ago(now, dead.dead_at),
        error: shorten(&dead.error),
    }
}

fn run_row(run: RunView, result: RunResult, now: Timestamp) -> RunRow {
    let last = result.last.as_ref().filter(|_| result.current() < result.total);
    RunRow {
        summary: run.summary(),
        job: run.job.to_string(),
        started: ago(now, run.created_at),
        by: shorten(&run.started_by),
        state: run.state,
        total: result.total,
        current: result.current(),
        success: result.success,
        failed: result.failed,
        last: last
            .map(|last| format!("{}{}", shorten(&last.key), if last.success { "" } else { ", failed" })),
        error: run.error.map(|e| shorten(&format!("{}: {}", e.code, e.message))),
    }
}

fn failure_row(item: ItemView, now: Timestamp) -> FailureRow {
    let error = item.error.map(|e| format!("{}: {}", e.code, e.message)).unwrap_or_default();
    let decide = |decision| path(&["items", item.job.as_str(), &item.key, decision]);
    FailureRow {
        id: item.id.to_string(),
        retry: decide("retry"),
        resolve: decide("resolve"),
        abandon: decide("abandon"),
        job: item.job.to_string(),
        key: shorten(&item.key),
        state: if item.state == State::ManualRequired { "needs a person" } else { item.shown },
        attempts: item.attempts,
        last: ago(now, item.last_attempt_at.unwrap_or(item.updated_at)),
        next: if item.state.is_end() { String::new() } else { until(now, item.due_at) },
        error: shorten(&error),
    }
}

/// Rows of waiting versions, which are removed from this host's own `versions`.
fn waiting_rows(waiting: &[Waits], versions: &mut Vec<PluginVersion>, now: Timestamp) -> Vec<VersionRow> {
    let row = |Waits { plugin, version, wants }: &Waits| {
        versions.retain(|own| own.plugin != *plugin || own.digest.to_string() != version.digest);
        let size = u64::try_from(version.size_bytes).unwrap_or_default();
        VersionRow {
            plugin: plugin.to_string(),
            version: shorten(&version.version),
            digest: version.digest.chars().take(DIGITS_SHOWN).collect(),
            size: show_bytes(size.next_multiple_of(1 << 10)),
            seen: ago(now, version.seen_at),
            state: Stage::Waiting.word(),
            reason: Some(domain::limits::cut(wants, REASON_BYTES_SHOWN)),
            approve: Some(path(&["plugins", plugin.as_str(), "approve"])),
            named: version.digest.clone(),
        }
    };
    waiting.iter().map(row).collect()
}

/// Rejected and waiting versions first, because they need a person; then the newest.
fn version_rows(mut versions: Vec<PluginVersion>, now: Timestamp) -> Vec<VersionRow> {
    let rank = |version: &PluginVersion| match version.state {
        VersionState::Rejected(_) | VersionState::Waiting(_) => 0,
        VersionState::Canary => 1,
        VersionState::Active => 2,
        VersionState::Retired => 3,
    };
    versions.sort_by_key(|version| (rank(version), std::cmp::Reverse(version.seen_at)));
    let row = |version: PluginVersion| VersionRow {
        plugin: version.plugin.to_string(),
        version: shorten(&version.version),
        digest: version.digest.short(),
        size: show_bytes(version.size_bytes.next_multiple_of(1 << 10)),
        seen: ago(now, version.seen_at),
        state: version.state.word(),
        reason: version.state.reason().map(|text| domain::limits::cut(text, REASON_BYTES_SHOWN)),
        approve: matches!(version.state, VersionState::Waiting(_))
            .then(|| path(&["plugins", version.plugin.as_str(), "approve"])),
        named: version.digest.to_string(),
    };
    versions.into_iter().take(VERSIONS_SHOWN).map(row).collect()
}

fn shorten(text: &str) -> String {
    domain::limits::cut(text, TEXT_BYTES_SHOWN)
}

fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{} ago", span(now.duration_since(then)))
}

fn until(now: Timestamp, then: Timestamp) -> String {
    if then <= now {
        return "now".to_owned();
    }
    format!("in {}", span(then.duration_since(now)))
}

/// The one or two largest units, which is precise enough.
fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}
