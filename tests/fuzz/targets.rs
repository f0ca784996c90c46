//! The parsers of foreign data. Each target returns whether the input was valid.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::LazyLock;

use domain::plugin::Describe;
use domain::schedule::Schedule;
use domain::schedule::cron::OddNights;
use jiff::{SignedDuration, Timestamp};
use sandbox::fuzzing::Attempt;
use server::config::{Config, Environment};

use crate::nothing::{Nothing, job_with_all};

pub struct Target {
    pub name: &'static str,
    pub seeds: &'static [&'static str],
    pub run: fn(&[u8]) -> bool,
}

pub const TARGETS: &[Target] = &[
    Target { name: "describe", seeds: DESCRIBES, run: describe },
    Target { name: "config", seeds: CONFIGS, run: config },
    Target { name: "schedule", seeds: SCHEDULES, run: schedule },
    Target { name: "values", seeds: VALUES, run: values },
];

const DESCRIBES: &[&str] = &[
    include_str!("../../wit/describe.schema.json"),
    r#"{"name":"a","version":"1","summary":"s","topics":["t"],"capabilities":["keyvalue"]}"#,
    r#"{"name":"a","version":"1","statements":{"s":{"datasource":"d","sql":"SELECT * FROM t WHERE a = $1 AND b = 'x;''y' AND [c] = `d`"}}}"#,
    r#"{"name":"a","version":"1","statements":{"s":{"datasource":"d","sql":"WITH x AS (SELECT 1) INSERT INTO t VALUES ($1, $2);","writes":true}}}"#,
    r##"{"name":"a","version":"1","config":{"type":"object","properties":{"n":{"type":"integer","minimum":1,"multipleOf":0.5},"x":{"type":["number","string"],"pattern":"^a+$","format":"date"}},"required":["n"],"additionalProperties":false,"$defs":{"a":{"$ref":"#/$defs/a"}}}}"##,
];

fn describe(input: &[u8]) -> bool {
    let Ok(describe) = Describe::parse(&String::from_utf8_lossy(input)) else { return false };
    let config: BTreeMap<_, _> =
        [("n", "1"), ("x", "1e400"), ("e", ""), ("long", "999999999999999999999999")].map(text).into();
    if let Some(schema) = &describe.config {
        sandbox::fuzzing::config(schema, &config);
    }
    let job = job_with_all("any");
    describe.asks_too_much(&job);
    true
}

fn text((key, value): (&str, &str)) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

const CONFIGS: &[&str] = &[
    include_str!("../../docs/tidemill.example.toml"),
    "store.url = \"sqlite://data/t.db\"\n[jobs.a]\nplugin = \"a\"\nschedule = { every = \"30s\", jitter = \"1s\" }\n",
    "[jobs.a]\nplugin = \"a\"\nschedule = { cron = \"*/5 9-17 * * MON-FRI\", tz = \"Europe/Berlin\", catch_up = \"all\", catch_up_max = 10 }\nrate = \"600/1m\"\nlimits = { memory = \"64MiB\", cpu_time = \"1s\" }\n",
    "[jobs.a]\nplugin = \"a\"\nschedule = { at = [\"2026-12-24T18:00:00+01:00\", \"2026-12-31 23:59\"], tz = \"UTC\" }\nretry = { base = \"1m\", factor = 2.0, cap = \"1h\", jitter = 0.1, by_code = { \"http-*\" = \"throttle 5m\" } }\n",
    "[sinks.a]\ntopics = [\"t\"]\nwebhook = \"http://127.0.0.1:9000/events\"\ntries_max = 10\n[engine]\nmemory = \"8GiB\"\nrecovery_every = \"5s\"\n[server]\nlisten = \"[::1]:7070\"\n",
];

fn config(input: &[u8]) -> bool {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    let file = FOLDER.path().join("tidemill.toml");
    std::fs::write(&file, input).unwrap();
    match Config::load(&file, &Environment::default(), now()) {
        Ok(config) => {
            server::config::show::effective(&config);
            true
        }
        Err(error) => {
            // The message is for people, so it must not be empty.
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

fn now() -> Timestamp {
    "2026-03-29T00:59:59Z".parse().unwrap()
}

/// A cron expression, a time zone and two numbers of milliseconds, one per line.
const SCHEDULES: &[&str] = &[
    "30 2 * * *\nEurope/Berlin\n1774742399000\n86400000",
    "*/20 * * * * *\nAmerica/New_York\n1762063200000\n3600000",
    "0 0 29 2 MON\nUTC\n0\n9999999999999",
    "@daily\nAustralia/Lord_Howe\n-1\n1000",
    "0 0 L * *\nAfrica/Casablanca\n253402207200000\n1",
    "0 0 1W,15 JAN-DEC 5#2\nPacific/Apia\n-377705023201000\n60000",
];

fn schedule(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (cron, zone, at, span) = (next(), next(), next(), next());
    let instant = |text: &str| {
        let millis = text.trim().parse().unwrap_or(0_i64);
        Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX)
    };
    let span = SignedDuration::from_millis(span.trim().parse().unwrap_or(1_000));
    if let Ok(every) = Schedule::every(span) {
        look(&every, instant(at), span);
    }
    let Ok(schedule) = Schedule::cron(cron, zone, OddNights::default(), now()) else { return false };
    look(&schedule, instant(at), span);
    true
}

fn look(schedule: &Schedule, at: Timestamp, span: SignedDuration) {
    let later = at.saturating_add(span).unwrap_or(Timestamp::MAX);
    let mut last = at;
    for instant in schedule.instants_after(at).take(3) {
        assert!(instant > last, "{instant} follows {last}");
        last = instant;
    }
    if let Some(due) = schedule.due(at, later) {
        assert!(due.at > at && due.at <= later, "{} is due between {at} and {later}", due.at);
    }
}

/// Bytes from which values are generated.
const VALUES: &[&str] = &[
    "\u{1}abcdefgh\u{2}ijklmnop\u{3}qrstuvwx\u{4}01234567\u{5}89:;<=>?",
    "\u{6}\u{7}\u{8}\u{9}\u{a}\u{b}\u{c}\u{d}~~~~~~~~}}}}}}}}||||||||",
    "zzzzzzzzyyyyyyyyxxxxxxxxwwwwwwwwvvvvvvvvuuuuuuuuttttttttssssssss",
];

fn values(input: &[u8]) -> bool {
    let mut attempt = Attempt::new(Arc::new(job_with_all("any")), Arc::new(Nothing)).unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(attempt.call(input));
    true
}
