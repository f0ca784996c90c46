//! The waits between attempts.

use jiff::SignedDuration;

use crate::retry::RetryPolicy;

fn policy(base_s: i64, cap_s: i64, jitter: f64) -> RetryPolicy {
    let (base, cap) = (SignedDuration::from_secs(base_s), SignedDuration::from_secs(cap_s));
    RetryPolicy { base, cap, jitter, max_attempts: None, ..RetryPolicy::DEFAULT }
}

const KEYS: [&str; 5] = ["", "user-1", "user-2", "钱包", "a key that is somewhat longer than the others"];

/// W4.
#[test]
fn wallets_wait_minutes_that_double_up_to_an_hour() {
    let wallet = policy(60, 3_600, 0.0);
    let minutes: Vec<i64> = (1..=8).map(|attempt| wallet.delay(attempt, "user-1").as_mins()).collect();
    assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60]);
    let exact = (1..=8).all(|attempt| wallet.delay(attempt, "user-1").as_nanos() % 60_000_000_000 == 0);
    assert!(exact, "whole minutes only");
    assert!(!wallet.exhausted(u32::MAX), "it never gives up");
}

/// F7.
#[test]
fn the_default_doubles_up_to_thirty_minutes() {
    let plain = RetryPolicy { jitter: 0.0, ..RetryPolicy::DEFAULT };
    let seconds: Vec<i64> = (1..=10).map(|attempt| plain.delay(attempt, "k").as_secs()).collect();
    assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 640, 1_280, 1_800, 1_800]);
}

#[test]
fn waits_only_grow_and_stay_below_the_cap() {
    for policy in [policy(1, 60, 0.0), policy(10, 1_800, 0.1), policy(60, 3_600, 1.0), policy(7, 7, 0.5)] {
        for key in KEYS {
            let waits: Vec<_> = (1..=2_000).map(|attempt| policy.delay(attempt, key)).collect();
            assert!(waits.is_sorted(), "{policy:?} {key:?}");
            assert!(
                waits.iter().all(|wait| !wait.is_negative() && *wait <= policy.cap),
                "{policy:?} {key:?}"
            );
        }
    }
}

#[test]
fn jitter_takes_off_up_to_its_share_and_differs_by_key() {
    let (plain, jittered) = (policy(100, 10_000, 0.0), policy(100, 10_000, 0.25));
    let mut waits = Vec::new();
    for number in 0..1_000 {
        let key = format!("user-{number}");
        for attempt in 1..=9 {
            let (whole, wait) = (plain.delay(attempt, &key), jittered.delay(attempt, &key));
            assert!(
                wait <= whole && wait.as_secs_f64() >= 0.75 * whole.as_secs_f64() - 1e-6,
                "{key} {attempt}"
            );
        }
        waits.push(jittered.delay(1, &key).as_millis());
    }
    let middle = waits.iter().filter(|wait| (81_250..93_750).contains(*wait)).count();
    assert!((350..650).contains(&middle), "half of the keys lie in the middle half: {middle} of 1000");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 950, "only {} of 1000 keys have a wait of their own", waits.len());
}

#[test]
fn one_key_waits_the_same_each_time() {
    let jittered = policy(100, 10_000, 0.5);
    let waits = KEYS.map(|key| jittered.delay(3, key).as_millis());
    // Fixed values: a change of the hash would move every waiting item at an upgrade.
    assert_eq!(waits, [212_646, 348_721, 267_222, 278_056, 324_289]);
}

#[test]
fn odd_numbers_do_not_panic() {
    for base_s in [0, 1, i64::MAX] {
        for cap_s in [0, 60, i64::MAX] {
            for factor in [1.0, 2.0, 1e300] {
                for jitter in [-1.0, 0.0, 0.5, 7.0] {
                    let policy = RetryPolicy { factor, ..policy(base_s, cap_s, jitter) };
                    for attempt in [0, 1, 2, 1_023, 1_025, u32::MAX] {
                        let wait = policy.delay(attempt, "k");
                        assert!(!wait.is_negative() && wait <= policy.cap, "{policy:?} {attempt}: {wait:#}");
                    }
                }
            }
        }
    }
    assert_eq!(policy(1, 60, 0.0).delay(0, "k"), policy(1, 60, 0.0).delay(1, "k"));
    assert_eq!(policy(0, 60, 0.0).delay(u32::MAX, "k"), SignedDuration::ZERO);
}

#[test]
fn attempts_are_exhausted_at_the_bound() {
    let three = RetryPolicy { max_attempts: Some(3), ..RetryPolicy::DEFAULT };
    let exhausted: Vec<bool> = (0..5).map(|attempts| three.exhausted(attempts)).collect();
    assert_eq!(exhausted, [false, false, false, true, true]);
}
