//! The effective configuration, including defaults and limits, for people. Passwords are not shown.

use std::fmt::Write;
use std::time::Duration;

use domain::flow::{Flow, PerPrefix};
use domain::job::{Access, JobSpec};
use domain::origin::{Methods, Origin};
use domain::retry::{RetryPolicy, Then, WhenExhausted};
use domain::secret::SecretHeader;
use domain::tick::{CatchUp, TickPolicy};
use jiff::SignedDuration;
use store::store::hide_password;

use super::job::ON_STORE_LOSS;
use super::limits::LIMITS;
use super::plugins::{APPROVALS, POLICIES, PluginsConfig};
use super::schedule::OVERLAP;
use super::text::show_bytes;
use super::{Config, SecretSource, Sink, Subject, To};
use crate::http::HttpLimits;
use crate::telemetry::LogFormat;

/// In the order and with the keys of the file. Schedules are shown as comments, as
/// the scheduler describes them.
pub fn effective(config: &Config) -> String {
    let mut out = settings(config);
    config.jobs.iter().for_each(|job| show_job(&mut out, job));
    out
}

fn show_plugins(out: &mut String, plugins: &PluginsConfig) {
    let PluginsConfig { dir, signatures, shared, release, load } = plugins;
    let policy = POLICIES.iter().find(|(_, policy)| *policy == signatures.policy);
    let approval = APPROVALS.iter().find(|(_, approval)| *approval == release.approval);
    let keys: Vec<String> = signatures.keys.iter().map(quoted).collect();
    let entries = [
        ("dir", quoted(dir.display())),
        ("signatures", quoted(policy.map_or("", |(word, _)| word))),
        ("keys", format!("[{}]", keys.join(", "))),
        ("shared", shared.to_string()),
        ("approval", quoted(approval.map_or("", |(word, _)| word))),
        ("component_size", quoted(show_bytes(load.component_size as u64))),
        ("compile_time", quoted(show_time(load.compile_time))),
        ("compile_memory", quoted(show_bytes(load.compile_memory))),
        ("describe_time", quoted(show_time(load.describe_time))),
    ];
    section(out, "plugins", &entries);
    if let Some(canary) = &release.canary {
        let entries = [
            ("share", canary.share.to_string()),
            ("promote_attempts", canary.promote_attempts.to_string()),
            ("promote_after", quoted(show(canary.promote_after))),
            ("failures_margin", canary.failures_margin.to_string()),
            ("cost_margin", canary.cost_margin.to_string()),
            ("attempts_min", canary.attempts_min.to_string()),
        ];
        section(out, "plugins.canary", &entries);
    }
}

/// All settings except the jobs.
pub fn settings(config: &Config) -> String {
    let mut out = String::new();
    let format = match config.log.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    section(&mut out, "server", &[("listen", quoted(config.listen))]);
    show_http(&mut out, &config.http);
    let data_dir = quoted(config.data_dir.display());
    section(&mut out, "host", &[("data_dir", data_dir), ("name", quoted(&config.host_name))]);
    section(&mut out, "store", &[("url", quoted(hide_password(&config.store.url)))]);
    let secrets: Vec<_> = config.secrets.sources().map(|(name, source)| (name, secret(source))).collect();
    if !secrets.is_empty() {
        section(&mut out, "secrets", &secrets);
    }
    show_plugins(&mut out, &config.plugins);
    section(&mut out, "log", &[("format", quoted(format)), ("filter", quoted(&config.log.filter))]);
    let engine = &config.engine;
    let mut memory = quoted(show_bytes(engine.memory_bytes as u64));
    if let Some(from) = &engine.memory_from {
        let _ = write!(memory, "  # unless given, from {from}");
    }
    let times = [
        ("recovery_every", quoted(show(engine.recovery_period))),
        ("hosts_kept", quoted(show(engine.hosts_kept))),
        ("history_kept", quoted(show(engine.history_kept))),
        ("alerts_kept", quoted(show(engine.alerts_kept))),
        ("memory", memory),
    ];
    section(&mut out, "engine", &times);
    if let Some(audit) = &config.audit {
        let entries = [
            ("retention", quoted(show(audit.retention))),
            ("archive_dir", quoted(audit.dir.display())),
            ("every", quoted(show(audit.every))),
        ];
        section(&mut out, "audit", &entries);
    }
    if let Some(file) = &config.tls.ca_file {
        section(&mut out, "tls", &[("ca_file", quoted(file.display()))]);
    }
    for (name, datasource) in &config.store.datasources {
        section(&mut out, &format!("datasources.{name}"), &[("url", quoted(hide_password(&datasource.url)))]);
    }
    config.sinks.iter().for_each(|sink| show_sink(&mut out, sink));
    out
}

fn show_http(out: &mut String, http: &HttpLimits) {
    let time = |time| quoted(show(SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX)));
    let size = |bytes: usize| quoted(show_bytes(bytes as u64));
    let entries = [
        ("connections", http.connections.to_string()),
        ("connections_per_peer", http.connections_per_peer.to_string()),
        ("requests", http.requests.to_string()),
        ("head_time", time(http.head_time)),
        ("body_time", time(http.body_time)),
        ("stall_time", time(http.stall_time)),
        ("bodies", size(http.bodies_bytes)),
        ("answers", size(http.answers_bytes)),
    ];
    section(out, "server.limits", &entries);
}

fn section(out: &mut String, name: &str, entries: &[(&str, String)]) {
    let gap = if out.is_empty() { "" } else { "\n" };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{gap}[{name}]");
    for (key, value) in entries {
        let _ = writeln!(out, "{key} = {value}");
    }
}

fn show_sink(out: &mut String, sink: &Sink) {
    let topics: Vec<String> = sink.topics.iter().map(quoted).collect();
    let mut entries = vec![("topics", format!("[{}]", topics.join(", ")))];
    match &sink.to {
        To::Webhook { url, signed_with } => {
            entries.push(("webhook", quoted(url)));
            entries.extend(signed_with.as_ref().map(|named| ("signed_with", quoted(&named.name))));
        }
        To::Table { datasource, table } => {
            entries.extend([("table", quoted(table)), ("datasource", quoted(datasource))]);
        }
        To::Nats(nats) => {
            entries.push(("nats", quoted(&nats.address)));
            entries.extend(nats.password.as_ref().map(|named| ("password", quoted(&named.name))));
            entries.push(match &nats.subject {
                Subject::Topic(prefix) => ("subject_prefix", quoted(prefix)),
                Subject::Fixed(subject) => ("subject", quoted(subject)),
            });
        }
        To::Redis(redis) => {
            entries.push(("redis", quoted(&redis.address)));
            entries.extend(redis.password.as_ref().map(|named| ("password", quoted(&named.name))));
            entries.extend(redis.stream.as_ref().map(|stream| ("stream", quoted(stream))));
            entries.extend(redis.length_max.map(|length| ("stream_length_max", length.to_string())));
        }
    }
    let timeout = SignedDuration::try_from(sink.timeout).unwrap_or(SignedDuration::MAX);
    entries.extend([("tries_max", sink.tries_max.to_string()), ("timeout", quoted(show(timeout)))]);
    section(out, &format!("sinks.{}", sink.name), &entries);
}

fn show_job(out: &mut String, job: &JobSpec) {
    let name = format!("jobs.{}", job.name);
    let mut entries = vec![("plugin", quoted(&job.plugin))];
    entries.push(("# schedule", format!("{}; {}", job.schedule, ticks(&job.ticks))));
    entries.extend(flow(&job.flow));
    entries.push(("resolve_when_absent", job.resolve_when_absent.to_string()));
    let word =
        ON_STORE_LOSS.iter().find(|(_, policy)| *policy == job.on_store_loss).map_or("", |(word, _)| word);
    entries.push(("on_store_loss", quoted(word)));
    section(out, &name, &entries);

    let config: Vec<_> = job.config.iter().map(|(key, value)| (quoted(key), quoted(value))).collect();
    let config: Vec<_> = config.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    if !config.is_empty() {
        section(out, &format!("{name}.config"), &config);
    }
    section(out, &format!("{name}.grants"), &grants(job));
    let told = &job.failed_alert;
    let failed = [("kind", quoted(&told.kind)), ("error_above", told.error_above.to_string())];
    section(out, &format!("{name}.failed_alert"), &failed);
    section(out, &format!("{name}.retry"), &retry(&job.retry));
    let rules = job.retry.by_code.iter().map(|rule| (quoted(&rule.pattern), quoted(then(rule.then))));
    let rules: Vec<_> = rules.collect();
    let rules: Vec<_> = rules.iter().map(|(pattern, then)| (pattern.as_str(), then.clone())).collect();
    if !rules.is_empty() {
        section(out, &format!("{name}.retry.by_code"), &rules);
    }
    let limits: Vec<_> = LIMITS.iter().map(|limit| (limit.key, limit.show_toml(&job.limits))).collect();
    section(out, &format!("{name}.limits"), &limits);
}

fn flow(flow: &Flow) -> Vec<(&'static str, String)> {
    let mut entries = vec![("concurrency", flow.concurrency.to_string())];
    if let Some(total) = flow.concurrency_total {
        entries.push(("concurrency_total", total.to_string()));
    }
    if let Some(PerPrefix { concurrency, separator }) = &flow.per_prefix {
        entries.push(("concurrency_per_prefix", concurrency.to_string()));
        entries.push(("prefix_separator", quoted(separator)));
    }
    if let Some(items) = flow.items_per_run_max {
        entries.push(("items_per_run_max", items.to_string()));
    }
    if let Some(rate) = flow.rate {
        entries.push(("rate", quoted(format!("{}/{}", rate.attempts_max, show(rate.window)))));
    }
    entries.push(("priority", flow.priority.to_string()));
    entries
}

/// The policies for due instants, with the keys of the file.
fn ticks(policy: &TickPolicy) -> String {
    let overlap = OVERLAP.iter().find(|(_, overlap)| *overlap == policy.overlap).map_or("", |(word, _)| word);
    let catch_up = match policy.catch_up {
        CatchUp::None => "none".to_owned(),
        CatchUp::Last => "last".to_owned(),
        CatchUp::All(most) => format!("all (at most {most})"),
    };
    let mut text = format!("overlap {overlap}, catch_up {catch_up}");
    let spans = [("catch_up_window", policy.catch_up_window), ("start_deadline", policy.start_deadline)];
    for (key, span) in spans {
        span.into_iter().for_each(|span| text.push_str(&format!(", {key} {}", show(span))));
    }
    if !policy.jitter.is_zero() {
        text.push_str(&format!(", jitter {}", show(policy.jitter)));
    }
    text
}

fn grants(job: &JobSpec) -> Vec<(&'static str, String)> {
    let sql = job.grants.datasources.iter().map(|(name, access)| {
        let word = match access {
            Access::Read => "read",
            Access::ReadWrite => "read-write",
        };
        format!("{name} = {}", quoted(word))
    });
    let sql: Vec<String> = sql.collect();
    let reach = |(origin, methods): (&Origin, &Methods)| quoted(format!("{methods} {origin}").trim_start());
    let http: Vec<String> = job.grants.http.iter().map(reach).collect();
    let locks: Vec<String> = job.grants.locks.iter().map(quoted).collect();
    let secrets: Vec<String> = job.grants.secrets.iter().map(secret_header).collect();
    let items: Vec<String> = job.grants.items.iter().map(quoted).collect();
    let events: Vec<String> = job.grants.topics.iter().map(quoted).collect();
    vec![
        ("sql", if sql.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", sql.join(", ")) }),
        ("events", format!("[{}]", events.join(", "))),
        ("keyvalue", job.grants.keyvalue.to_string()),
        ("alerts", job.grants.alerts.to_string()),
        ("audit", job.grants.audit.to_string()),
        ("metrics", job.grants.metrics.to_string()),
        ("items", format!("[{}]", items.join(", "))),
        ("locks", format!("[{}]", locks.join(", "))),
        ("http", format!("[{}]", http.join(", "))),
        ("http_private", job.grants.http_private.to_string()),
        (
            "secrets",
            if secrets.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", secrets.join(", ")) },
        ),
    ]
}

fn secret_header(secret: &SecretHeader) -> String {
    let SecretHeader { name, to, header, form, .. } = secret;
    format!("{name} = {{ to = {}, header = {}, as = {} }}", quoted(to), quoted(header), quoted(form))
}

fn secret(source: &SecretSource) -> String {
    match source {
        SecretSource::Env(name) => format!("{{ env = {} }}", quoted(name)),
        SecretSource::File(file) => format!("{{ file = {} }}", quoted(file.display())),
    }
}

fn retry(policy: &RetryPolicy) -> Vec<(&'static str, String)> {
    let attempts = policy.max_attempts.map_or(quoted("unbounded"), |max| max.to_string());
    let deferrals = policy.deferrals_max.map_or(quoted("unbounded"), |max| max.to_string());
    let when_exhausted = match policy.when_exhausted {
        WhenExhausted::Manual => "manual",
        WhenExhausted::NextRun => "next-run",
    };
    let mut entries = vec![
        ("base", quoted(show(policy.base))),
        ("factor", policy.factor.to_string()),
        ("cap", quoted(show(policy.cap))),
        ("jitter", policy.jitter.to_string()),
        ("max_attempts", attempts),
        ("min_delay", quoted(show(policy.min_delay.unwrap_or(policy.base)))),
        ("deferrals_max", deferrals),
        ("when_exhausted", quoted(when_exhausted)),
        ("crashes_max", policy.crashes_max.to_string()),
    ];
    if let Some(span) = policy.forget_after {
        entries.push(("forget_after", quoted(show(span))));
    }
    entries
}

fn then(then: Then) -> String {
    match then {
        Then::Retry => "retry".to_owned(),
        Then::Stop => "stop".to_owned(),
        Then::Throttle(None) => "throttle".to_owned(),
        Then::Throttle(Some(after)) => format!("throttle {}", show(after)),
    }
}

fn show(duration: SignedDuration) -> String {
    format!("{duration:#}")
}

fn show_time(time: Duration) -> String {
    show(SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX))
}

/// A TOML text with quotes, backslashes and control characters escaped.
fn quoted(text: impl ToString) -> String {
    toml::Value::String(text.to_string()).to_string()
}
