//! The effective configuration, including defaults and limits, for people. Passwords are not shown.

use std::fmt::Write;

use domain::flow::{Flow, PerPrefix};
use domain::job::{Access, Capability, JobSpec};
use domain::origin::{Methods, Origin};
use domain::retry::Then;
use domain::schedule::tick::{CatchUp, TickPolicy};
use domain::secret::SecretHeader;
use store::store::hide_password;

use super::job::{FAILED_ALERT_KEYS, ISOLATION, ON_STORE_LOSS, RETRY_KEYS};
use super::keys::{self, quoted, show_time, word_of};
use super::schedule::OVERLAP;
use super::{Config, SecretSource, Sink, Subject, To, audit, engine, limits, log, plugins, server};

/// In the order and with the keys of the file. Schedules are shown as comments, as
/// the scheduler describes them.
pub fn effective(config: &Config) -> String {
    let mut out = settings(config);
    config.jobs.iter().for_each(|job| show_job(&mut out, job));
    out
}

/// All settings except the jobs.
pub fn settings(config: &Config) -> String {
    let mut out = String::new();
    section(&mut out, "server", &[("listen", quoted(config.listen))]);
    section(&mut out, "server.limits", &keys::show(&server::LIMIT_KEYS, &config.http));
    let data_dir = quoted(config.data_dir.display());
    section(&mut out, "host", &[("data_dir", data_dir), ("name", quoted(&config.host_name))]);
    let url = quoted(hide_password(&config.store.url));
    section(&mut out, "store", &[("url", url), ("notify", config.store.notify.to_string())]);
    let secrets: Vec<_> = config.secrets.sources().map(|(name, source)| (name, secret(source))).collect();
    if !secrets.is_empty() {
        section(&mut out, "secrets", &secrets);
    }
    section(&mut out, "plugins", &keys::show(&plugins::KEYS, &config.plugins));
    if let Some(canary) = &config.plugins.release.canary {
        section(&mut out, "plugins.canary", &keys::show(&plugins::CANARY_KEYS, canary));
    }
    section(&mut out, "log", &keys::show(&log::KEYS, &config.log));
    section(&mut out, "engine", &keys::show(&engine::KEYS, &config.engine));
    if let Some(archive) = &config.audit {
        section(&mut out, "audit", &keys::show(&audit::KEYS, archive));
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
        To::Webhook { url, signed_with, batch } => {
            entries.push(("webhook", quoted(url)));
            entries.extend(signed_with.as_ref().map(|named| ("signed_with", quoted(&named.name))));
            entries.push(("batch", batch.to_string()));
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
    entries.extend([("tries_max", sink.tries_max.to_string()), ("timeout", quoted(show_time(sink.timeout)))]);
    section(out, &format!("sinks.{}", sink.name), &entries);
}

fn show_job(out: &mut String, job: &JobSpec) {
    let name = format!("jobs.{}", job.name);
    let mut entries = vec![("plugin", quoted(&job.plugin))];
    entries.push(("# schedule", format!("{}; {}", job.schedule, ticks(&job.ticks))));
    entries.extend(flow(&job.flow));
    entries.push(("resolve_when_absent", job.resolve_when_absent.to_string()));
    entries.push(("on_store_loss", quoted(word_of(&ON_STORE_LOSS, &job.on_store_loss))));
    entries.push(("isolation", quoted(word_of(&ISOLATION, &job.isolation))));
    section(out, &name, &entries);

    let config: Vec<_> = job.config.iter().map(|(key, value)| (quoted(key), quoted(value))).collect();
    let config: Vec<_> = config.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    if !config.is_empty() {
        section(out, &format!("{name}.config"), &config);
    }
    section(out, &format!("{name}.grants"), &grants(job));
    let failed_alert = keys::show(&FAILED_ALERT_KEYS, &job.failed_alert);
    section(out, &format!("{name}.failed_alert"), &failed_alert);
    section(out, &format!("{name}.retry"), &keys::show(&RETRY_KEYS, &job.retry));
    let rules = job.retry.by_code.iter().map(|rule| (quoted(&rule.pattern), quoted(then(rule.then))));
    let rules: Vec<_> = rules.collect();
    let rules: Vec<_> = rules.iter().map(|(pattern, then)| (pattern.as_str(), then.clone())).collect();
    if !rules.is_empty() {
        section(out, &format!("{name}.retry.by_code"), &rules);
    }
    section(out, &format!("{name}.limits"), &keys::show(&limits::KEYS, &job.limits));
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
        entries.push(("rate", quoted(format!("{}/{}", rate.attempts_max, show_time(rate.window)))));
    }
    entries.push(("priority", flow.priority.to_string()));
    entries
}

/// The policies for due instants, with the keys of the file.
fn ticks(policy: &TickPolicy) -> String {
    let overlap = word_of(&OVERLAP, &policy.overlap);
    let catch_up = match policy.catch_up {
        CatchUp::None => "none".to_owned(),
        CatchUp::Last => "last".to_owned(),
        CatchUp::All(most) => format!("all (at most {most})"),
    };
    let mut text = format!("overlap {overlap}, catch_up {catch_up}");
    let spans = [("catch_up_window", policy.catch_up_window), ("start_deadline", policy.start_deadline)];
    for (key, span) in spans {
        span.into_iter().for_each(|span| text.push_str(&format!(", {key} {}", show_time(span))));
    }
    if !policy.jitter.is_zero() {
        text.push_str(&format!(", jitter {}", show_time(policy.jitter)));
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
    let capability = |one: Capability| (one.as_str(), job.grants.allow(one).to_string());
    let mut entries = vec![
        ("sql", if sql.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", sql.join(", ")) }),
        ("events", format!("[{}]", events.join(", "))),
    ];
    entries.extend(Capability::ALL.map(capability));
    entries.extend([
        ("items", format!("[{}]", items.join(", "))),
        ("locks", format!("[{}]", locks.join(", "))),
        ("http", format!("[{}]", http.join(", "))),
        ("http_private", job.grants.http_private.to_string()),
        (
            "secrets",
            if secrets.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", secrets.join(", ")) },
        ),
    ]);
    entries
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

fn then(then: Then) -> String {
    match then {
        Then::Retry => "retry".to_owned(),
        Then::Stop => "stop".to_owned(),
        Then::Throttle(None) => "throttle".to_owned(),
        Then::Throttle(Some(after)) => format!("throttle {}", show_time(after)),
    }
}
