//! Checks the final state in the databases, with SQL that is independent of the host's SQL.

use std::collections::BTreeMap;
use std::fmt;

use crate::support::database::{Databases, Kind};
use crate::support::invariants::VIOLATIONS;

/// Maximum number of keys in a message.
const SHOWN_MAX: usize = 20;

/// Counts of interrupted attempts.
pub struct Tally {
    /// Attempts that a kill interrupted.
    pub lost: i64,
    /// Items whose effects were already in the business database when their attempt was repeated.
    pub cut_between_commits: i64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { lost, cut_between_commits } = self;
        write!(f, "{lost} attempts lost, {cut_between_commits} of them between their two commits")
    }
}

/// Checks that every item of the job `witness` was done once, and that each of its traces exists once.
pub async fn all_done_once(databases: &Databases, items: u32, seed: u64) -> Tally {
    let keys = databases.store_texts("SELECT item_key FROM item ORDER BY item_key").await;
    let expected = (1..=items).map(|n| format!("w-{n:07}")).collect();
    same("items", expected, keys, seed);
    for (what, sql) in VIOLATIONS {
        let named = databases.store_texts(sql).await;
        assert!(named.is_empty(), "seed {seed}: {}: {what}: {:?}", named.len(), shown(&named));
    }
    let traces = "SELECT item_key || ' ' || idempotency_key FROM witness ORDER BY 1";
    let expected = "SELECT item_key || ' ' || id || '.' || series || '.' || attempts FROM item ORDER BY 1";
    let expected = databases.store_texts(expected).await;
    same("rows of the witness table", expected, databases.business_texts(traces).await, seed);

    let count = async |sql: &str| databases.store_number(sql).await;
    let found = count("SELECT found FROM run").await;
    assert_eq!(found, i64::from(items), "seed {seed}: items that the run found");
    assert_eq!(count("SELECT COUNT(*) FROM event").await, found, "seed {seed}: events");
    assert_eq!(count("SELECT COUNT(*) FROM kv").await, found, "seed {seed}: values");
    sound(databases, seed).await;
    Tally {
        lost: count("SELECT COUNT(*) FROM attempt WHERE verdict = 'lost'").await,
        cut_between_commits: count("SELECT COUNT(*) FROM event WHERE payload LIKE '%\"rows\":0%'").await,
    }
}

/// Checks that every discovered item exists, in any state; this must hold after every crash.
pub async fn conserved(databases: &Databases, seed: u64) {
    let difference = "SELECT (SELECT COUNT(*) FROM item) - (SELECT CAST(SUM(found) AS BIGINT) FROM run)";
    assert_eq!(databases.store_number(difference).await, 0, "seed {seed}: items less what runs found");
}

async fn sound(databases: &Databases, seed: u64) {
    if databases.kind == Kind::Sqlite {
        let check = "PRAGMA integrity_check";
        assert_eq!(databases.store_texts(check).await, ["ok"], "seed {seed}");
        assert_eq!(databases.business_texts(check).await, ["ok"], "seed {seed}");
    }
}

/// Checks that both lists hold the same texts equally often; reports missing and surplus ones.
fn same(what: &str, expected: Vec<String>, found: Vec<String>, seed: u64) {
    let mut balance: BTreeMap<String, i64> = BTreeMap::new();
    for text in expected {
        *balance.entry(text).or_default() -= 1;
    }
    for text in found {
        *balance.entry(text).or_default() += 1;
    }
    let pick = |sign: i64| -> Vec<String> {
        balance.iter().filter(|(_, n)| n.signum() == sign).map(|(text, _)| text.clone()).collect()
    };
    let (missing, extra) = (pick(-1), pick(1));
    assert!(
        missing.is_empty() && extra.is_empty(),
        "seed {seed}: {what}: {} missing: {:?}; {} too many: {:?}",
        missing.len(),
        shown(&missing),
        extra.len(),
        shown(&extra)
    );
}

fn shown(keys: &[String]) -> &[String] {
    &keys[..keys.len().min(SHOWN_MAX)]
}
