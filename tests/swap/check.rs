//! Checks whether items were lost or done twice, or started on a version that was already replaced.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::site::{PAIR, Site};
use crate::support::invariants::VIOLATIONS;

pub struct Verdict {
    pub items: usize,
    pub lost: Vec<String>,
    pub twice: Vec<String>,
    /// Any other violation.
    unsound: Vec<String>,
}

impl Verdict {
    pub fn failures(&self) -> Vec<String> {
        let kinds = [("lost", &self.lost), ("twice", &self.twice), ("unsound", &self.unsound)];
        let named = kinds.iter().filter(|(_, named)| !named.is_empty());
        named
            .map(|(what, named)| format!("{} {what}: {:?}", named.len(), &named[..named.len().min(20)]))
            .collect()
    }
}

/// `digests` lists the versions in the order in which they were installed.
pub async fn check(site: &Site, digests: &[String]) -> Verdict {
    let items = site.store_texts("SELECT item_key FROM item WHERE state = 'resolved'").await;
    let open =
        site.store_texts("SELECT item_key || ' is ' || state FROM item WHERE state <> 'resolved'").await;
    let mut rows: BTreeMap<String, usize> = BTreeMap::new();
    for key in site.databases.business_texts("SELECT item_key FROM witness").await {
        *rows.entry(key).or_default() += 1;
    }
    let no_row = items.iter().filter(|key| !rows.contains_key(*key)).map(|key| format!("{key} has no row"));
    let lost = open.into_iter().chain(no_row).collect();
    let twice = rows.iter().filter(|(_, count)| **count > 1).map(|(key, _)| key.clone()).collect();

    // The host never selects a value by its key alone; without this index, 140,000 items would take minutes.
    site.databases.store("CREATE INDEX kv_by_key ON kv (job, kv_key)").await;
    let mut unsound = Vec::new();
    for (what, sql) in VIOLATIONS {
        let named = site.store_texts(sql).await;
        unsound.extend(named.into_iter().map(|key| format!("{what}: {key}")));
    }
    unsound.extend(late(site, digests).await);
    unsound.extend(mistaken(site, digests).await);
    Verdict { items: items.len(), lost, twice, unsound }
}

/// Attempts that began on a version after an attempt on a later version had ended.
async fn late(site: &Site, digests: &[String]) -> Vec<String> {
    let sql = "SELECT lower(hex(digest)) || ' ' || MAX(started_at_ms) || ' ' || MIN(ended_at_ms) FROM attempt GROUP BY digest";
    let mut times: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for line in site.store_texts(sql).await {
        let words: Vec<&str> = line.split(' ').collect();
        times.insert(words[0].to_owned(), (words[1].parse().unwrap(), words[2].parse().unwrap()));
    }
    let known: BTreeSet<&String> = digests.iter().collect();
    let unknown = times.keys().filter(|digest| !known.contains(digest));
    let mut found: Vec<String> = unknown.map(|digest| format!("{digest} was never put there")).collect();
    let mut retired_at = i64::MAX;
    for (n, digest) in digests.iter().enumerate().rev() {
        let Some((last_start, first_end)) = times.get(digest) else {
            found.push(format!("no attempt ran on version {n}"));
            continue;
        };
        if *last_start > retired_at {
            found.push(format!("an attempt began on version {n} {} ms late", last_start - retired_at));
        }
        retired_at = retired_at.min(*first_end);
    }
    found
}

/// Attempts whose event was written by a version other than their own.
async fn mistaken(site: &Site, digests: &[String]) -> Vec<String> {
    let version_of: BTreeMap<&str, &str> =
        digests.iter().enumerate().map(|(n, digest)| (digest.as_str(), PAIR[n % 2])).collect();
    let sql =
        "SELECT lower(hex(a.digest)) || ' ' || e.payload FROM attempt a JOIN event e ON e.item_id = a.item_id
        WHERE a.verdict = 'resolved'";
    let lines = site.store_texts(sql).await;
    let wrong = lines.iter().filter(|line| {
        let (digest, payload) = line.split_once(' ').unwrap();
        let payload: Value = serde_json::from_str(payload).unwrap();
        payload["version"].as_str() != version_of.get(digest).copied()
    });
    wrong.cloned().collect()
}
