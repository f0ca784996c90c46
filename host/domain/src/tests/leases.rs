//! How long a host may act while it cannot reach its store.

use std::sync::Arc;

use jiff::SignedDuration;

use super::at;
use crate::clock::Clock;
use crate::lease::{Hold, Trust};

#[test]
fn a_hold_lasts_from_its_claim_or_the_last_renewal() {
    let start = at("2026-11-20T12:00:00Z");
    let second = SignedDuration::from_secs;
    let clock = Clock::manual(start);
    let Clock::Manual(hands) = &clock else { panic!("a manual clock") };
    let trust = Arc::new(Trust::new(clock.clone(), second(14)));
    let first = Hold::new(trust.clone(), start);
    hands.advance(second(10));
    let later = Hold::new(trust.clone(), start + second(10));
    hands.advance(SignedDuration::from_millis(3_999));
    assert!(first.is_ours() && !trust.has_ended());
    hands.advance(SignedDuration::from_millis(1));
    assert!(!first.is_ours() && trust.has_ended(), "14 s after the start");
    assert!(later.is_ours(), "claimed 4 s ago");

    trust.renewed(start + second(12));
    assert!(first.is_ours() && !trust.has_ended());
    assert_eq!(later.needs(second(6)), Some(start + second(20)));
    hands.advance(second(12));
    assert!(!first.is_ours() && !later.is_ours());
    trust.shift(second(5));
    assert!(first.is_ours(), "the clock was set 5 s ahead: nothing is older than before");
    hands.advance(SignedDuration::MAX);
    assert!(!first.is_ours() && Hold::without_end().is_ours());
    assert_eq!(Hold::without_end().needs(second(6)), None);
}

#[test]
fn real_duration_is_longer_on_a_fast_clock() {
    let second = SignedDuration::from_secs;
    let clock = Clock::scaled(100.0, at("2026-11-20T12:00:00Z"));
    let hold = Hold::new(Arc::new(Trust::new(clock.clone(), second(1_400))), clock.now());
    let before = clock.now();
    let needed = hold.needs(second(6)).unwrap().duration_since(before);
    assert!(needed >= second(600), "a commit may take 6 real seconds: {needed:?}");
    assert_eq!(Clock::steady().shown(second(6)), second(6));
}

#[test]
fn a_claim_before_the_clock_was_set_back_lasts_no_longer() {
    let start = at("2026-11-20T12:00:00Z");
    let second = SignedDuration::from_secs;
    let clock = Clock::manual(start);
    let Clock::Manual(hands) = &clock else { panic!("a manual clock") };
    let trust = Arc::new(Trust::new(clock.clone(), second(14)));
    let held = Hold::new(trust.clone(), start + second(3_600));
    hands.set(start + second(12));
    assert!(held.is_ours(), "renewed 12 s ago");
    hands.set(start + second(14));
    assert!(!held.is_ours());
}
