use crate::decide::{Decision, INCONSISTENT, Limits, Status, decide};

const NOW: i64 = 1_800_000_000_000;
const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;
const LIMITS: Limits = Limits { timeout_ms: 60 * SECOND, retention_ms: 24 * HOUR };

fn status(word: &str, age_ms: i64, request_key: &str) -> Option<Status> {
    Some(Status {
        word: Some(word.to_owned()),
        updated_at_ms: Some(NOW - age_ms),
        request_key: Some(request_key.to_owned()),
    })
}

fn decided(word: &str, age_ms: i64) -> Decision {
    decide(2, status(word, age_ms, "an earlier attempt"), "this attempt", &LIMITS, NOW)
}

#[test]
fn a_wallet_with_three_chains_is_complete_whatever_the_status_says() {
    for word in ["failed", "pending", "completed", "nonsense"] {
        assert_eq!(decide(3, status(word, 0, "k"), "k", &LIMITS, NOW), Decision::Complete);
    }
}

#[test]
fn w6_no_status_or_a_failed_one_is_retried() {
    assert_eq!(decide(0, None, "k", &LIMITS, NOW), Decision::Retry("no status"));
    assert_eq!(decided("failed", SECOND), Decision::Retry("failed"));
}

#[test]
fn w6_an_unreadable_status_is_retried() {
    assert_eq!(decided("nonsense", SECOND), Decision::Retry("unreadable status"));
    for (word, updated_at_ms) in [(None, Some(NOW)), (Some("pending".to_owned()), None)] {
        let status = Some(Status { word, updated_at_ms, request_key: None });
        assert_eq!(decide(0, status, "k", &LIMITS, NOW), Decision::Retry("unreadable status"));
    }
}

#[test]
fn w6_completed_with_an_incomplete_wallet_is_inconsistent() {
    assert_eq!(decided("completed", SECOND), Decision::Retry(INCONSISTENT));
}

#[test]
fn w6_a_generation_that_runs_is_waited_for_until_it_times_out() {
    for word in ["pending", "generating", "deriving"] {
        assert_eq!(decided(word, 59 * SECOND), Decision::Wait { until_ms: NOW + SECOND });
        assert_eq!(decided(word, -SECOND), Decision::Wait { until_ms: NOW + 61 * SECOND });
        assert_eq!(decided(word, 60 * SECOND), Decision::Retry("timed out"));
    }
}

#[test]
fn a_time_far_ahead_is_not_waited_for() {
    assert_eq!(decided("pending", -HOUR), Decision::Retry("unreadable status"));
}

#[test]
fn w6_a_status_older_than_a_day_is_none() {
    assert_eq!(decided("completed", 24 * HOUR + 1), Decision::Retry("no status"));
    assert_eq!(decided("completed", 24 * HOUR), Decision::Retry(INCONSISTENT));
}

#[test]
fn w8_a_status_without_its_event_is_requested_again_by_the_same_attempt_only() {
    let cut_off = decide(2, status("pending", SECOND, "this"), "this", &LIMITS, NOW);
    assert_eq!(cut_off, Decision::Retry("the request of this attempt was cut off"));
    let of_another = decide(2, status("pending", SECOND, "that"), "this", &LIMITS, NOW);
    assert_eq!(of_another, Decision::Wait { until_ms: NOW + 59 * SECOND });
}

#[test]
fn w8_the_session_is_a_stable_uuid_of_the_attempt() {
    assert_eq!(crate::session_id("a"), crate::session_id("a"));
    assert_ne!(crate::session_id("a"), crate::session_id("b"));
    assert_eq!(uuid::Uuid::parse_str(&crate::session_id("a")).unwrap().get_version_num(), 5);
}
