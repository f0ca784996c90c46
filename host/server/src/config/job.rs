//! One `[jobs.<name>]` section.

use std::collections::BTreeMap;

use domain::alert::FailedAlert;
use domain::job::{Isolation, JobSpec, OnStoreLoss};
use domain::retry::{CodeRule, RetryPolicy, Then, WhenExhausted};
use domain::schedule::Schedule;
use domain::text::check_key;
use jiff::{SignedDuration, Timestamp};

use super::error::Mistaken;
use super::flow;
use super::grants::{self, GrantTargets};
use super::keys::{self, Key, quoted, show_time};
use super::limits;
use super::names::{NAME_REMEDY, name_words};
use super::reader::Section;
use super::toml_tree::Value;
use super::{schedule, text};

const ERRORS_MAX: u64 = 1_000_000;
const ATTEMPTS_MAX: u64 = 1_000_000;

/// Reads a job. Returns `None` if a required part is wrong. All mistakes are reported in either case.
pub fn read(
    name: &str,
    mut section: Section<'_>,
    known: &GrantTargets<'_>,
    memory_bytes: usize,
    now: Timestamp,
) -> Option<JobSpec> {
    let job_name = match name.parse() {
        Ok(job_name) => Some(job_name),
        Err(e) => {
            section.blame("", format!("{name:?} is not a job's name: {}", name_words(&e)), NAME_REMEDY);
            None
        }
    };
    let plugin = plugin(&mut section);
    let schedule = schedule::read(&mut section, now);
    let enabled = section.flag("enabled").is_none_or(|found| found.value);
    let config = config(&mut section);
    let grants = grants::read(section.section("grants"), known);
    let limits = limits::read(section.section("limits"));
    let retry = retry(section.section("retry"));
    if limits.memory_bytes > memory_bytes {
        let (wanted, has) =
            (text::show_bytes(limits.memory_bytes as u64), text::show_bytes(memory_bytes as u64));
        let what = format!("an attempt may take {wanted}, and all guests of this host have {has}");
        section.blame(
            "limits.memory",
            what,
            "lower it, or raise engine.memory (`tidemill config show` says where it comes from)",
        );
    }
    let flow = flow::read(&mut section);
    let resolve_when_absent = section.flag("resolve_when_absent");
    let failed_alert = failed_alert(section.section("failed_alert"));
    let on_store_loss = section.word("on_store_loss", &ON_STORE_LOSS);
    let isolation = section.word("isolation", &ISOLATION);
    section.finish();
    let (schedule, ticks) = schedule?;
    Some(JobSpec {
        name: job_name?,
        plugin: plugin?,
        // A disabled job can still be started manually.
        schedule: if enabled { schedule } else { Schedule::Manual },
        ticks,
        config,
        grants,
        limits,
        retry,
        flow,
        resolve_when_absent: resolve_when_absent.is_some_and(|found| found.value),
        failed_alert,
        on_store_loss: on_store_loss.map(|found| found.value).unwrap_or_default(),
        isolation: isolation.map(|found| found.value).unwrap_or_default(),
    })
}

fn plugin(section: &mut Section<'_>) -> Option<domain::id::PluginName> {
    if !section.has("plugin") {
        section.asked("plugin");
        let what = "the job names no plugin";
        section.blame("plugin", what, "add plugin = \"name\", as in plugins/name.wasm");
        return None;
    }
    let found = section.text("plugin")?;
    match found.value.parse() {
        Ok(name) => Some(name),
        Err(e) => {
            let what = format!("{:?} is not a plugin's name: {}", found.value, name_words(&e));
            section.blame_found(&found, what, "write the file's name without .wasm");
            None
        }
    }
}

fn config(section: &mut Section<'_>) -> BTreeMap<String, String> {
    let mut config = BTreeMap::new();
    let table = section.section("config");
    let mistakes = table.mistakes();
    for (key, found) in table.free() {
        let text = match &found.value {
            Value::Text(text) | Value::Date(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(flag) => flag.to_string(),
            other => {
                let what = format!("a plugin reads text, this is {}", other.kind());
                mistakes.add(&found.at, &found.key, what, "write it as text, in JSON for example");
                continue;
            }
        };
        config.insert(key, text);
    }
    config
}

pub const ON_STORE_LOSS: [(&str, OnStoreLoss); 2] =
    [("stop", OnStoreLoss::Stop), ("continue-idempotent", OnStoreLoss::ContinueIdempotent)];

pub const ISOLATION: [(&str, Isolation); 2] = [("item", Isolation::Item), ("batch", Isolation::Batch)];

pub const RETRY_KEYS: [Key<RetryPolicy>; 10] = [
    keys::time!("base", base, |time| wait(time, "no wait between attempts")),
    keys::number!("factor", factor, 1.0..=100.0),
    keys::time!("cap", cap, |_| Ok(())),
    keys::number!("jitter", jitter, 0.0..=1.0),
    keys::count_or_unbounded!("max_attempts", max_attempts, 1..=ATTEMPTS_MAX),
    Key {
        name: "min_delay",
        read: read_min_delay,
        show: |policy| Some(quoted(show_time(policy.min_delay.unwrap_or(policy.base)))),
    },
    keys::count_or_unbounded!("deferrals_max", deferrals_max, 1..=ATTEMPTS_MAX),
    keys::word!("when_exhausted", when_exhausted, WHEN_EXHAUSTED),
    keys::count!("crashes_max", crashes_max, 1..=1_000),
    Key {
        name: "forget_after",
        read: read_forget_after,
        show: |policy| policy.forget_after.map(|time| quoted(show_time(time))),
    },
];

const WHEN_EXHAUSTED: [(&str, WhenExhausted); 2] =
    [("manual", WhenExhausted::Manual), ("next-run", WhenExhausted::NextRun)];

fn retry(mut section: Section<'_>) -> RetryPolicy {
    let mut policy = RetryPolicy::DEFAULT;
    keys::read(&RETRY_KEYS, &mut section, &mut policy);
    if policy.cap < policy.base
        && let Some(found) = section.given("cap").or_else(|| section.given("base"))
    {
        let what = format!("the cap of {:#} is below the base of {:#}", policy.cap, policy.base);
        section.blame_found(&found, what, "raise retry.cap or lower retry.base");
    }
    policy.by_code = by_code(section.section("by_code"));
    section.finish();
    policy
}

fn read_min_delay(section: &mut Section<'_>, policy: &mut RetryPolicy) {
    let check = |time: &SignedDuration| wait(*time, "there is no wait after attempts that are not counted");
    policy.min_delay = section.duration("min_delay").and_then(|found| section.checked(found, check));
}

fn read_forget_after(section: &mut Section<'_>, policy: &mut RetryPolicy) {
    let check = |time: &SignedDuration| {
        if *time < SignedDuration::from_secs(1) {
            let what = format!("{time:#} would forget every attempt at once");
            return Err((what, "use at least \"1s\", or leave it out to forget none".to_owned()));
        }
        Ok(())
    };
    policy.forget_after = section.duration("forget_after").and_then(|found| section.checked(found, check));
}

/// Requires a wait, so that a failing item does not occupy the host.
fn wait(time: SignedDuration, without: &str) -> Result<(), Mistaken> {
    if time < SignedDuration::from_millis(1) {
        return Err((without.to_owned(), "use at least \"1ms\"".to_owned()));
    }
    Ok(())
}

const CODE_REMEDY: &str = "use \"retry\", \"stop\", \"throttle\", or \"throttle 5m\"";

fn by_code(section: Section<'_>) -> Vec<CodeRule> {
    let mistakes = section.mistakes();
    let mut rules = Vec::new();
    for (pattern, found) in section.free() {
        let then = match &found.value {
            Value::Text(word) => then(word),
            other => Err(format!("expected text, found {}", other.kind())),
        };
        match then {
            _ if pattern.trim_end_matches('*').is_empty() || pattern.trim_end_matches('*').contains('*') => {
                let what = format!("{pattern:?} is no code, nor the beginning of one with a * at its end");
                mistakes.add(&found.at, &found.key, what, "write it like \"http-status-404\" or \"http-*\"");
            }
            Ok(then) => rules.push(CodeRule { pattern, then }),
            Err(what) => mistakes.add(&found.at, &found.key, what, CODE_REMEDY),
        }
    }
    rules
}

fn then(word: &str) -> Result<Then, String> {
    match word.split_once(' ') {
        None if word == "retry" => Ok(Then::Retry),
        None if word == "stop" => Ok(Then::Stop),
        None if word == "throttle" => Ok(Then::Throttle(None)),
        Some(("throttle", after)) => match text::duration(after)? {
            after if after < SignedDuration::from_millis(1) => Err(format!("{word:?} would not wait at all")),
            after => Ok(Then::Throttle(Some(after))),
        },
        _ => Err(format!("{word:?} is not known")),
    }
}

pub const FAILED_ALERT_KEYS: [Key<FailedAlert>; 2] = [
    keys::text!("kind", kind, |kind| alert_kind(kind)),
    keys::count!("error_above", error_above, 0..=ERRORS_MAX),
];

fn failed_alert(mut section: Section<'_>) -> FailedAlert {
    let mut alert = FailedAlert::default();
    keys::read(&FAILED_ALERT_KEYS, &mut section, &mut alert);
    section.finish();
    alert
}

fn alert_kind(kind: &str) -> Result<(), Mistaken> {
    let what = match check_key(kind) {
        _ if kind.is_empty() => "an alert's kind cannot be empty".to_owned(),
        Err(why) => format!("{kind:?} is no alert's kind: {why}"),
        Ok(()) => return Ok(()),
    };
    Err((what, "name it, like \"STOCK_REPLENISH_FAILED\"".to_owned()))
}
