//! Tests without a database: dice, addresses, standings, outcomes, requests.

use crate::address::{CHAINS, address};
use crate::outcome::Outcome;
use crate::request::KeygenRequest;
use crate::standing::{STANDINGS, standing};
use crate::tests::support::{NOW_MS, payload};
use crate::{MpcConfig, MpcStats};

#[test]
fn addresses_are_stable_and_differ() {
    let all: std::collections::BTreeSet<String> =
        (10_000_001..10_001_001).flat_map(|user| CHAINS.map(|chain| address(user, chain))).collect();
    assert_eq!(all.len(), 3_000);
    assert_eq!(address(10_000_001, "KAVA"), address(10_000_001, "KAVA"));
    assert!(address(10_000_001, "DST").starts_with("dst1"));
    assert_eq!(address(10_000_001, "BSC").len(), 42);
}

#[test]
fn standings_follow_rule_w6() {
    let day = 24 * 3_600_000;
    let table = [
        (None, None, "no status"),
        (Some("failed"), Some(1), "failed"),
        (Some("failed"), None, "unreadable"),
        (Some("completed"), Some(1), "inconsistent"),
        (Some("pending"), Some(60_000), "pending"),
        (Some("pending"), Some(60_001), "timed out"),
        (Some("generating"), Some(0), "generating"),
        (Some("deriving"), Some(-5), "deriving"),
        (Some("deriving"), Some(day), "timed out"),
        (Some("deriving"), Some(day + 1), "no status"),
        (Some("failed"), Some(day + 1), "no status"),
        (Some("generating"), None, "unreadable"),
        (Some("Pending"), Some(1), "unreadable"),
        (Some(""), Some(1), "unreadable"),
    ];
    for (status, age_ms, expected) in table {
        let said = standing(status, age_ms.map(|age| NOW_MS - age), NOW_MS);
        assert_eq!(said, expected, "{status:?} of age {age_ms:?} ms");
        assert!(STANDINGS.contains(&said));
    }
}

#[test]
fn outcomes_keep_to_their_chances() {
    let config = MpcConfig::default();
    let share = |nth, outcome| {
        let users = 10_000_000..10_020_000;
        let hits = users.filter(|user| Outcome::decide(&config, *user, nth) == outcome);
        hits.count() as f64 / 200.0
    };
    for (nth, outcome, percent) in [
        (1, Outcome::Failed, 25.0),
        (2, Outcome::Hung, 12.0),
        (2, Outcome::Inconsistent, 8.0),
        (3, Outcome::Failed, 12.5),
        (3, Outcome::Completed, 77.5),
        (4, Outcome::Completed, 100.0),
        (99, Outcome::Completed, 100.0),
    ] {
        let got = share(nth, outcome);
        assert!((got - percent).abs() < 1.0, "request {nth}: {got} % {outcome:?}, wanted {percent} %");
    }
}

#[test]
fn outcomes_depend_on_the_seed_alone() {
    let one = MpcConfig::default();
    let other = MpcConfig { seed: 2, ..one.clone() };
    let all = |config: &MpcConfig| -> Vec<Outcome> {
        (0..100).map(|user| Outcome::decide(config, user, 1)).collect()
    };
    assert_eq!(all(&one), all(&one.clone()));
    assert_ne!(all(&one), all(&other));
}

/// Each request is refused, and the error names the problem.
#[test]
fn bad_requests_are_refused() {
    const SESSION: &str = "0193a0b2-5f6e-7c31-9a41-0242ac120002";
    let good = payload(SESSION, (10_000_001, 4_102));
    assert!(KeygenRequest::parse(&good.to_string()).is_ok());

    let changes = [
        ("session_id", "\"abc\"", "session_id \"abc\" is not a uuid"),
        ("session_id", "\"0193A0B2-5F6E-7C31-9A41-0242AC120002\"", "lower case"),
        ("session_id", "\"00000000-0000-0000-0000-000000000000\"", "is not a uuid"),
        ("session_id", "5", "expected a string"),
        ("user_id", "0", "user_id 0"),
        ("user_id", "\"10000001\"", "expected i64"),
        ("user_id", "1.5", "expected i64"),
        ("account_sequence", "-4", "account_sequence -4"),
        ("username", "\"user_9\"", "must be \"user_4102\""),
        ("threshold", "1", "threshold 1 of total_parties 3"),
        ("threshold", "-2", "expected u32"),
        ("total_parties", "5", "threshold 2 of total_parties 5"),
        ("require_delegate", "false", "require_delegate must be true"),
        ("require_delegate", "null", "expected a boolean"),
        ("extra", "1", "unknown field `extra`"),
    ];
    for (key, value, wanted) in changes {
        let mut bad = good.clone();
        bad[key] = serde_json::from_str(value).unwrap();
        refused(&bad.to_string(), wanted);
    }
    for key in good.as_object().unwrap().keys() {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(key);
        refused(&bad.to_string(), &format!("missing field `{key}`"));
    }
    let twice = good.to_string().replacen('{', "{\"threshold\": 2,", 1);
    refused(&twice, "duplicate field `threshold`");
    refused("", "is not a MpcKeygenRequested");
    refused("[]", "is not a MpcKeygenRequested");
    refused(&format!("{good} x"), "trailing characters");
    refused(&" ".repeat(5_000), "has 5000 bytes, at most 4096");
}

fn refused(payload: &str, wanted: &str) {
    let error = KeygenRequest::parse(payload).unwrap_err();
    assert!(error.contains(wanted), "{payload}\n  said {error:?}, wanted {wanted:?}");
}

/// For every test that reads the service's counts.
pub fn assert_adds_up(stats: &MpcStats) {
    let ended = stats.completed + stats.failed + stats.hung + stats.inconsistent;
    let ended = ended + stats.superseded + stats.broken;
    assert_eq!(stats.requested, ended + stats.in_flight as u64, "{stats:?}");
}
