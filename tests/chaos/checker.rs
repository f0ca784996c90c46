//! Checks the final state once the hosts are idle: reads the API and both databases, with SQL that is
//! independent of the hosts' SQL, and compares the result with the client's log.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use test_support::postgres_url;

use crate::hosts::Gone;
use crate::load::{Key, Log};
use crate::site::Site;

use crate::support::database::{Kind, number};
use crate::support::invariants::VIOLATIONS;

/// Acknowledged items that are read from the API one by one; all items are checked by their counts.
const ASKED_MAX: usize = 500;
const SHOWN_MAX: usize = 20;

/// Each set names the affected items.
pub struct Verdict {
    /// Acknowledged, but not done or without its effect.
    pub lost: BTreeSet<String>,
    /// More than one row in the witness table.
    pub duplicate: BTreeSet<String>,
    /// Written by an attempt after it had lost its item.
    pub stale_accepted: BTreeSet<String>,
    /// Any other violation.
    pub unsound: Vec<String>,
}

/// A row of the witness table.
struct Trace {
    key: String,
    epoch: i64,
    /// Commit time in milliseconds since 1970, if the database records it.
    committed_at: Option<i64>,
}

pub async fn check(site: &Site, log: &Log) -> Verdict {
    let items = states(site).await;
    let traces = traces(site).await;
    let mut rows: BTreeMap<&str, u32> = BTreeMap::new();
    for trace in &traces {
        *rows.entry(trace.key.as_str()).or_default() += 1;
    }
    let done = |key: &str| items.get(key).is_some_and(|state| state == "resolved") && rows.contains_key(key);
    let acknowledged = log.acknowledged.iter().map(|acknowledged| &acknowledged.key);
    let lost = acknowledged.filter(|key| !done(key)).cloned().collect();
    let duplicate = rows.iter().filter(|(_, rows)| **rows > 1).map(|(key, _)| (*key).to_owned()).collect();
    let mut verdict =
        Verdict { lost, duplicate, stale_accepted: stale(site, &traces).await, unsound: Vec::new() };
    verdict.unsound = unsound(site, &items, &rows).await;
    verdict
}

async fn states(site: &Site) -> BTreeMap<String, String> {
    let rows = site.databases.store_texts("SELECT item_key || ' ' || state FROM item").await;
    rows.iter().map(|row| row.split_once(' ').unwrap()).map(|(k, s)| (k.to_owned(), s.to_owned())).collect()
}

async fn traces(site: &Site) -> Vec<Trace> {
    let committed_at = match site.databases.kind {
        Kind::Sqlite => "'-'",
        Kind::Postgres => "CAST(EXTRACT(EPOCH FROM pg_xact_commit_timestamp(xmin)) * 1000 AS BIGINT)",
    };
    let sql = format!("SELECT item_key || ' ' || epoch || ' ' || {committed_at} FROM witness");
    let trace = |row: String| {
        let words: Vec<&str> = row.split(' ').collect();
        let (key, epoch) = (words[0].to_owned(), words[1].parse().unwrap());
        Trace { key, epoch, committed_at: words[2].parse().ok() }
    };
    site.databases.business_texts(&sql).await.into_iter().map(trace).collect()
}

/// Finds items with a commit by an attempt after the next attempt began, and items with two accepted
/// attempts.
async fn stale(site: &Site, traces: &[Trace]) -> BTreeSet<String> {
    let attempts = "SELECT item_key || ' ' || attempt.epoch || ' ' || started_at_ms
        FROM attempt JOIN item ON item.id = attempt.item_id";
    let attempts = site.databases.store_texts(attempts).await;
    let began: BTreeMap<(&str, i64), i64> = attempts
        .iter()
        .map(|row| {
            let words: Vec<&str> = row.split(' ').collect();
            ((words[0], words[1].parse().unwrap()), words[2].parse().unwrap())
        })
        .collect();
    let mut found = BTreeSet::new();
    for Trace { key, epoch, committed_at } in traces {
        let next = began.get(&(key.as_str(), epoch + 1));
        let late = next.zip(*committed_at).is_some_and(|(next, committed_at)| committed_at > *next);
        if late || !began.contains_key(&(key.as_str(), *epoch)) {
            eprintln!(
                "stale: {key} at epoch {epoch} committed at {committed_at:?}, the next attempt began at {next:?}"
            );
            found.insert(key.clone());
        }
    }
    let believed =
        "SELECT MIN(item_key) FROM attempt JOIN item ON item.id = attempt.item_id WHERE verdict = 'resolved'
        GROUP BY item_id HAVING COUNT(*) > 1
        UNION ALL SELECT MIN(event_key) FROM event GROUP BY item_id HAVING COUNT(*) > 1";
    found.extend(site.databases.store_texts(believed).await);
    found
}

async fn unsound(site: &Site, items: &BTreeMap<String, String>, rows: &BTreeMap<&str, u32>) -> Vec<String> {
    let mut unsound = Vec::new();
    for (what, sql) in VIOLATIONS {
        let named = site.databases.store_texts(sql).await;
        if !named.is_empty() {
            unsound.push(format!("{}: {what}: {:?}", named.len(), shown(&named)));
        }
    }
    let foreign: Vec<_> = rows.keys().filter(|key| !items.contains_key(**key)).collect();
    if !foreign.is_empty() {
        unsound.push(format!("{}: rows of no item: {:?}", foreign.len(), shown(&foreign)));
    }
    if site.databases.kind == Kind::Sqlite {
        let check = "PRAGMA integrity_check";
        for said in [site.databases.store_texts(check).await, site.databases.business_texts(check).await] {
            unsound.extend((said != ["ok"]).then(|| format!("SQLite: {said:?}")));
        }
    }
    unsound
}

/// Compares the API's answers with the client's log, and returns the differences. The hosts must be up.
pub async fn check_api(site: &Site, log: &Log) -> Vec<String> {
    let mut wrong = Vec::new();
    let place = &site.places[0];
    let every = log.acknowledged.len().div_ceil(ASKED_MAX).max(1);
    for Key { job, key } in log.acknowledged.iter().step_by(every) {
        let answer = place.ask("GET", &format!("/api/v1/items/{job}/{key}"), None).await;
        let item = answer.ok().and_then(|(_, text)| serde_json::from_str::<Value>(&text).ok());
        let state = item.as_ref().and_then(|item| item["item"]["state"].as_str());
        if state != Some("resolved") {
            wrong.push(format!("the API says that {key} is {state:?}"));
        }
    }
    let answer = place.ask("GET", "/api/v1/jobs", None).await;
    let jobs: Value = answer.ok().and_then(|(_, text)| serde_json::from_str(&text).ok()).unwrap_or_default();
    let counts: Vec<&Value> = jobs["jobs"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|job| job["items"].as_array().into_iter().flatten())
        .collect();
    let said: i64 = counts.iter().filter_map(|count| count["items"].as_i64()).sum();
    let stored = site.databases.store_number("SELECT COUNT(*) FROM item").await;
    if said != stored {
        wrong.push(format!("the API counts {said} items, the database has {stored}: {counts:?}"));
    }
    wrong
}

/// Idle hosts keep no transaction open; returns how many are. The hosts must be up.
pub async fn check_sessions(site: &Site) -> Vec<String> {
    if site.databases.kind == Kind::Sqlite { Vec::new() } else { sessions_open().await }
}

/// The same for all hosts on Postgres.
pub async fn sessions_open() -> Vec<String> {
    let open = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name LIKE 'tidemill%'
        AND state LIKE 'idle in transaction%' AND xact_start < clock_timestamp() - INTERVAL '5 seconds'";
    let open = number(&postgres_url(), open).await;
    (open > 0).then(|| format!("{open} sessions are in an abandoned transaction")).into_iter().collect()
}

/// For each item of a host that was gone: milliseconds until the item was released, sorted.
pub async fn recovery_times(site: &Site, gone: impl Iterator<Item = &Gone>) -> Vec<i64> {
    let mut times = Vec::new();
    for Gone { host, since, .. } in gone {
        let sql = format!(
            "SELECT CAST(ended_at_ms - {since} AS TEXT) FROM attempt WHERE verdict = 'lost' AND host_id = '{host}'
                AND started_at_ms <= {since} AND ended_at_ms >= {since}"
        );
        let found = site.databases.store_texts(&sql).await;
        times.extend(found.iter().map(|text| text.parse::<i64>().unwrap()));
    }
    times.sort_unstable();
    times
}

pub fn shown<T>(all: &[T]) -> &[T] {
    &all[..all.len().min(SHOWN_MAX)]
}
