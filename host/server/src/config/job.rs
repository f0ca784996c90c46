//! One `[jobs.<name>]` section.

use std::collections::BTreeMap;

use domain::alert::FailedAlert;
use domain::job::{JobSpec, OnStoreLoss};
use domain::retry::{CodeRule, RetryPolicy, Then, WhenExhausted};
use domain::schedule::Schedule;
use domain::text::check_key;
use jiff::{SignedDuration, Timestamp};

use super::flow::{self, narrow};
use super::grants::{self, Known};
use super::limits;
use super::names::{NAME_REMEDY, name_words};
use super::raw::Value;
use super::reader::Section;
use super::{schedule, text};

const ERRORS_MAX: u64 = 1_000_000;
const ATTEMPTS_MAX: u64 = 1_000_000;

/// Reads a job. Returns `None` if a required part is wrong. All mistakes are reported in either case.
pub fn read(
    name: &str,
    mut section: Section<'_>,
    known: &Known<'_>,
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

fn retry(mut section: Section<'_>) -> RetryPolicy {
    let mut policy = RetryPolicy::DEFAULT;
    let base = section.duration("base");
    let cap = section.duration("cap");
    if let Some(found) = &base {
        policy.base = found.value;
        if found.value < SignedDuration::from_millis(1) {
            section.blame_found(found, "no wait between attempts", "use at least \"1ms\"");
        }
    }
    if let Some(found) = &cap {
        policy.cap = found.value;
    }
    if policy.cap < policy.base
        && let Some(found) = cap.as_ref().or(base.as_ref())
    {
        let what = format!("the cap of {:#} is below the base of {:#}", policy.cap, policy.base);
        section.blame_found(found, what, "raise retry.cap or lower retry.base");
    }
    if let Some(found) = section.number("factor", 1.0..=100.0) {
        policy.factor = found.value;
    }
    if let Some(found) = section.number("jitter", 0.0..=1.0) {
        policy.jitter = found.value;
    }
    if let Some(found) = section.count_or("max_attempts", 1..=ATTEMPTS_MAX, "unbounded") {
        policy.max_attempts = found.value.map(narrow);
    }
    if let Some(found) = section.duration("min_delay") {
        if found.value < SignedDuration::from_millis(1) {
            section.blame_found(
                &found,
                "there is no wait after attempts that are not counted",
                "use at least \"1ms\"",
            );
        }
        policy.min_delay = Some(found.value);
    }
    if let Some(found) = section.count_or("deferrals_max", 1..=ATTEMPTS_MAX, "unbounded") {
        policy.deferrals_max = found.value.map(narrow);
    }
    let after = [("manual", WhenExhausted::Manual), ("next-run", WhenExhausted::NextRun)];
    if let Some(found) = section.word("when_exhausted", &after) {
        policy.when_exhausted = found.value;
    }
    if let Some(found) = section.duration("forget_after") {
        if found.value < SignedDuration::from_secs(1) {
            let what = format!("{:#} would forget every attempt at once", found.value);
            section.blame_found(&found, what, "use at least \"1s\", or leave it out to forget none");
        }
        policy.forget_after = Some(found.value);
    }
    if let Some(found) = section.count("crashes_max", 1..=1_000) {
        policy.crashes_max = narrow(found.value);
    }
    policy.by_code = by_code(section.section("by_code"));
    section.finish();
    policy
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

fn failed_alert(mut section: Section<'_>) -> FailedAlert {
    let mut told = FailedAlert::default();
    if let Some(found) = section.text("kind") {
        let remedy = "name it, like \"STOCK_REPLENISH_FAILED\"";
        match check_key(&found.value) {
            _ if found.value.is_empty() => {
                section.blame_found(&found, "an alert's kind cannot be empty", remedy);
            }
            Err(why) => {
                section.blame_found(&found, format!("{:?} is no alert's kind: {why}", found.value), remedy);
            }
            Ok(()) => told.kind = found.value,
        }
    }
    if let Some(found) = section.count("error_above", 0..=ERRORS_MAX) {
        told.error_above = narrow(found.value);
    }
    section.finish();
    told
}
