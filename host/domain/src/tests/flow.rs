//! Limits per key prefix, and the order among jobs.

use super::at;
use crate::flow::{Flow, PRIORITY_STEP, PerPrefix};

#[test]
fn prefix_limits_concurrency() {
    let two = PerPrefix { concurrency: 2, separator: ":".to_owned() };
    assert_eq!(["eth:1", "eth", ":x", "", "eth:1:2"].map(|key| two.of(key)), ["eth", "eth", "", "", "eth"]);
    let keys = ["eth:1", "btc:1", "eth:2", "eth:3", "ltc", "btc:2"];
    assert_eq!(two.admits(&[], &keys), ["eth:1", "btc:1", "eth:2", "ltc", "btc:2"]);
    assert_eq!(two.admits(&["eth:8", "btc:8", "eth:9"], &keys), ["btc:1", "ltc"]);
    assert_eq!(two.full(&["eth:8", "btc:8", "eth:9", "eth"]), ["eth"]);
    let long = PerPrefix { concurrency: 1, separator: "->".to_owned() };
    assert_eq!(long.admits(&[], &["a-1", "a->1", "a->2", "a"]), ["a-1", "a->1"]);
}

#[test]
fn long_wait_outranks_every_priority() {
    let flow = |priority| Flow { priority, ..Flow::default() };
    let due = at("2026-11-20T12:00:00Z");
    assert!(flow(1).turn(due) < flow(2).turn(due));
    assert!(flow(9).turn(due) < flow(1).turn(due + PRIORITY_STEP * 9), "nine steps later");
    assert_eq!(flow(9).turn(due), flow(1).turn(due + PRIORITY_STEP * 8));
    assert_eq!(flow(9).turn(jiff::Timestamp::MAX), jiff::Timestamp::MAX);
}
