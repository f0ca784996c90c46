//! The consequence of each end of an attempt for its item, as a table.

use expect_test::expect;
use jiff::{SignedDuration, Timestamp};

use super::at;
use crate::failure::{ErrorInfo, Failure};
use crate::id::{AttemptId, ItemId};
use crate::item::{Claimed, Event};
use crate::outcome::{Ending, Outcome, PUT_OFF_MAX, Verdict, decide};
use crate::retry::{CodeRule, RetryPolicy, Then};

fn now() -> Timestamp {
    at("2026-11-20T12:00:00Z")
}

fn item(attempts: u32, last_attempt: &str) -> Claimed {
    Claimed {
        id: ItemId::new(now()),
        job: "wallet".parse().unwrap(),
        key: "user-7".to_owned(),
        payload: "{}".to_owned(),
        attempts,
        deferrals: 0,
        series: 2,
        epoch: 5,
        attempt_id: AttemptId::new(now()),
        run_id: None,
        found_by: None,
        in_batch: None,
        first_attempt_at: Some(at("2026-11-01T00:00:00Z")),
        last_attempt_at: Some(at(last_attempt)),
        last_error: None,
        claimed_at: now(),
    }
}

fn policy(max_attempts: Option<u32>, forget_after: Option<SignedDuration>) -> RetryPolicy {
    let base = SignedDuration::from_mins(1);
    let cap = SignedDuration::from_mins(60);
    RetryPolicy { base, cap, jitter: 0.0, max_attempts, forget_after, ..RetryPolicy::DEFAULT }
}

fn results() -> Vec<(&'static str, Result<Outcome, Failure>)> {
    let note = |text: &str| Some(text.to_owned());
    let slow = |retry_after| Failure::Throttled { retry_after, error: ErrorInfo::new("busy", "slow down") };
    let hour = SignedDuration::from_hours(1);
    vec![
        ("resolved", Ok(Outcome::Resolved { note: note("done") })),
        ("awaiting", Ok(Outcome::Awaiting { note: note("begun") })),
        ("snoozed 1 h", Ok(Outcome::Snoozed { until: now() + hour })),
        ("snoozed -1 h", Ok(Outcome::Snoozed { until: now() - hour })),
        ("snoozed ever", Ok(Outcome::Snoozed { until: Timestamp::MAX })),
        ("transient", Err(Failure::transient("mpc-down", "no answer"))),
        ("throttled 5 s", Err(slow(SignedDuration::from_secs(5)))),
        ("throttled -5 s", Err(slow(SignedDuration::from_secs(-5)))),
        ("throttled ever", Err(slow(SignedDuration::MAX))),
        ("permanent", Err(Failure::Permanent(ErrorInfo::new("no-user", "it is gone")))),
        ("interrupted", Err(Failure::Interrupted)),
        ("host", Err(Failure::host("host-resources", "no memory"))),
    ]
}

fn line(what: &str, ending: &Ending) -> String {
    let Ending { event, verdict, due_at, attempts, error, note, .. } = ending;
    let wait = due_at.duration_since(now()).as_secs();
    let mut line = format!(
        "  {what:<15} {:<12} {:<12} +{wait} s, attempts {attempts}",
        event.as_str(),
        verdict.as_str()
    );
    if let Some(ErrorInfo { code, message }) = error {
        line.push_str(&format!(", error {code}: {message}"));
    }
    if let Some(note) = note {
        line.push_str(&format!(", note {note}"));
    }
    line
}

fn table(title: &str, item: &Claimed, policy: &RetryPolicy) -> String {
    let lines = results().into_iter().map(|(what, result)| {
        let item = item.clone().remembered(policy);
        let ending = decide(&result, &item, policy, now());
        format!("{}\n", line(what, &ending))
    });
    format!("{title}\n{}", lines.collect::<String>())
}

const RECENT: &str = "2026-11-20T11:00:00Z";
const LONG_AGO: &str = "2026-11-13T12:00:00Z";

#[test]
fn bounded_attempts() {
    let bounded = policy(Some(3), None);
    let text = table("first of 3", &item(0, RECENT), &bounded)
        + &table("last of 3", &item(2, RECENT), &bounded)
        + &table("beyond (the bound was lowered)", &item(8, RECENT), &bounded);
    expect![[r#"
        first of 3
          resolved        resolved     resolved     +0 s, attempts 1, note done
          awaiting        await        awaiting     +60 s, attempts 1, note begun
          snoozed 1 h     retry        snoozed      +3600 s, attempts 0
          snoozed -1 h    retry        failed       +60 s, attempts 1, error snoozed-to-past: snoozed until 2026-11-20T11:00:00Z, which is before the attempt began: answer with an instant (milliseconds since 1970), not with a duration
          snoozed ever    retry        snoozed      +31622400 s, attempts 0
          transient       retry        failed       +60 s, attempts 1, error mpc-down: no answer
          throttled 5 s   retry        throttled    +60 s, attempts 0, error busy: slow down
          throttled -5 s  retry        throttled    +60 s, attempts 0, error busy: slow down
          throttled ever  retry        throttled    +31622400 s, attempts 0, error busy: slow down
          permanent       give_up      permanent    +0 s, attempts 1, error no-user: it is gone
          interrupted     interrupted  interrupted  +0 s, attempts 0
          host            interrupted  host-failed  +60 s, attempts 0, error host-resources: no memory
        last of 3
          resolved        resolved     resolved     +0 s, attempts 3, note done
          awaiting        give_up      exhausted    +0 s, attempts 3, error attempts-exhausted: still awaited after 3 attempts, note begun
          snoozed 1 h     retry        snoozed      +3600 s, attempts 2
          snoozed -1 h    give_up      exhausted    +0 s, attempts 3, error snoozed-to-past: snoozed until 2026-11-20T11:00:00Z, which is before the attempt began: answer with an instant (milliseconds since 1970), not with a duration
          snoozed ever    retry        snoozed      +31622400 s, attempts 2
          transient       give_up      exhausted    +0 s, attempts 3, error mpc-down: no answer
          throttled 5 s   retry        throttled    +60 s, attempts 2, error busy: slow down
          throttled -5 s  retry        throttled    +60 s, attempts 2, error busy: slow down
          throttled ever  retry        throttled    +31622400 s, attempts 2, error busy: slow down
          permanent       give_up      permanent    +0 s, attempts 3, error no-user: it is gone
          interrupted     interrupted  interrupted  +0 s, attempts 2
          host            interrupted  host-failed  +240 s, attempts 2, error host-resources: no memory
        beyond (the bound was lowered)
          resolved        resolved     resolved     +0 s, attempts 9, note done
          awaiting        give_up      exhausted    +0 s, attempts 9, error attempts-exhausted: still awaited after 9 attempts, note begun
          snoozed 1 h     retry        snoozed      +3600 s, attempts 8
          snoozed -1 h    give_up      exhausted    +0 s, attempts 9, error snoozed-to-past: snoozed until 2026-11-20T11:00:00Z, which is before the attempt began: answer with an instant (milliseconds since 1970), not with a duration
          snoozed ever    retry        snoozed      +31622400 s, attempts 8
          transient       give_up      exhausted    +0 s, attempts 9, error mpc-down: no answer
          throttled 5 s   retry        throttled    +60 s, attempts 8, error busy: slow down
          throttled -5 s  retry        throttled    +60 s, attempts 8, error busy: slow down
          throttled ever  retry        throttled    +31622400 s, attempts 8, error busy: slow down
          permanent       give_up      permanent    +0 s, attempts 9, error no-user: it is gone
          interrupted     interrupted  interrupted  +0 s, attempts 8
          host            interrupted  host-failed  +300 s, attempts 8, error host-resources: no memory
    "#]].assert_eq(&text);
}

#[test]
fn unbounded_attempts() {
    let text = table("10th, no bound", &item(9, LONG_AGO), &policy(None, None))
        + &table("4294967295th, no bound", &item(u32::MAX, RECENT), &policy(None, None));
    expect![[r#"
        10th, no bound
          resolved        resolved     resolved     +0 s, attempts 10, note done
          awaiting        await        awaiting     +3600 s, attempts 10, note begun
          snoozed 1 h     retry        snoozed      +3600 s, attempts 9
          snoozed -1 h    retry        failed       +3600 s, attempts 10, error snoozed-to-past: snoozed until 2026-11-20T11:00:00Z, which is before the attempt began: answer with an instant (milliseconds since 1970), not with a duration
          snoozed ever    retry        snoozed      +31622400 s, attempts 9
          transient       retry        failed       +3600 s, attempts 10, error mpc-down: no answer
          throttled 5 s   retry        throttled    +60 s, attempts 9, error busy: slow down
          throttled -5 s  retry        throttled    +60 s, attempts 9, error busy: slow down
          throttled ever  retry        throttled    +31622400 s, attempts 9, error busy: slow down
          permanent       give_up      permanent    +0 s, attempts 10, error no-user: it is gone
          interrupted     interrupted  interrupted  +0 s, attempts 9
          host            interrupted  host-failed  +300 s, attempts 9, error host-resources: no memory
        4294967295th, no bound
          resolved        resolved     resolved     +0 s, attempts 4294967295, note done
          awaiting        await        awaiting     +3600 s, attempts 4294967295, note begun
          snoozed 1 h     retry        snoozed      +3600 s, attempts 4294967295
          snoozed -1 h    retry        failed       +3600 s, attempts 4294967295, error snoozed-to-past: snoozed until 2026-11-20T11:00:00Z, which is before the attempt began: answer with an instant (milliseconds since 1970), not with a duration
          snoozed ever    retry        snoozed      +31622400 s, attempts 4294967295
          transient       retry        failed       +3600 s, attempts 4294967295, error mpc-down: no answer
          throttled 5 s   retry        throttled    +60 s, attempts 4294967295, error busy: slow down
          throttled -5 s  retry        throttled    +60 s, attempts 4294967295, error busy: slow down
          throttled ever  retry        throttled    +31622400 s, attempts 4294967295, error busy: slow down
          permanent       give_up      permanent    +0 s, attempts 4294967295, error no-user: it is gone
          interrupted     interrupted  interrupted  +0 s, attempts 4294967295
          host            interrupted  host-failed  +300 s, attempts 4294967295, error host-resources: no memory
    "#]]
    .assert_eq(&text);
}

#[test]
fn attempts_are_forgotten_after_seven_days() {
    let forgetful = policy(Some(3), Some(SignedDuration::from_hours(7 * 24)));
    let one_ms_less = "2026-11-13T12:00:00.001Z";
    let text = table("last of 3, 7 days ago", &item(2, LONG_AGO), &forgetful)
        + &table("last of 3, 1 ms less ago", &item(2, one_ms_less), &forgetful);
    expect![[r#"
        last of 3, 7 days ago
          resolved        resolved     resolved     +0 s, attempts 1, note done
          awaiting        await        awaiting     +60 s, attempts 1, note begun
          snoozed 1 h     retry        snoozed      +3600 s, attempts 0
          snoozed -1 h    retry        failed       +60 s, attempts 1, error snoozed-to-past: snoozed until 2026-11-20T11:00:00Z, which is before the attempt began: answer with an instant (milliseconds since 1970), not with a duration
          snoozed ever    retry        snoozed      +31622400 s, attempts 0
          transient       retry        failed       +60 s, attempts 1, error mpc-down: no answer
          throttled 5 s   retry        throttled    +60 s, attempts 0, error busy: slow down
          throttled -5 s  retry        throttled    +60 s, attempts 0, error busy: slow down
          throttled ever  retry        throttled    +31622400 s, attempts 0, error busy: slow down
          permanent       give_up      permanent    +0 s, attempts 1, error no-user: it is gone
          interrupted     interrupted  interrupted  +0 s, attempts 0
          host            interrupted  host-failed  +60 s, attempts 0, error host-resources: no memory
        last of 3, 1 ms less ago
          resolved        resolved     resolved     +0 s, attempts 3, note done
          awaiting        give_up      exhausted    +0 s, attempts 3, error attempts-exhausted: still awaited after 3 attempts, note begun
          snoozed 1 h     retry        snoozed      +3600 s, attempts 2
          snoozed -1 h    give_up      exhausted    +0 s, attempts 3, error snoozed-to-past: snoozed until 2026-11-20T11:00:00Z, which is before the attempt began: answer with an instant (milliseconds since 1970), not with a duration
          snoozed ever    retry        snoozed      +31622400 s, attempts 2
          transient       give_up      exhausted    +0 s, attempts 3, error mpc-down: no answer
          throttled 5 s   retry        throttled    +60 s, attempts 2, error busy: slow down
          throttled -5 s  retry        throttled    +60 s, attempts 2, error busy: slow down
          throttled ever  retry        throttled    +31622400 s, attempts 2, error busy: slow down
          permanent       give_up      permanent    +0 s, attempts 3, error no-user: it is gone
          interrupted     interrupted  interrupted  +0 s, attempts 2
          host            interrupted  host-failed  +240 s, attempts 2, error host-resources: no memory
    "#]].assert_eq(&text);
}

#[test]
fn an_item_without_an_attempt_has_nothing_to_forget() {
    let forgetful = policy(None, Some(SignedDuration::ZERO));
    let fresh = Claimed { last_attempt_at: None, ..item(0, RECENT) };
    let ending = decide(&Err(Failure::transient("x", "y")), &fresh, &forgetful, now());
    assert_eq!(ending.attempts, 1);
}

#[test]
fn forgotten_attempts_begin_a_new_series_with_new_idempotency_keys() {
    let forgetful = policy(None, Some(SignedDuration::from_hours(7 * 24)));
    let old = item(5, LONG_AGO);
    let restarted = old.clone().remembered(&forgetful);
    assert_eq!((restarted.number(), restarted.series, restarted.first_attempt_at), (1, old.series + 1, None));
    let recent = item(5, RECENT).remembered(&forgetful);
    assert_eq!((recent.number(), recent.series), (6, old.series));
}

#[test]
fn times_near_the_maximum_do_not_panic() {
    for (_, result) in results() {
        let ending = decide(&result, &item(1, RECENT), &policy(None, None), Timestamp::MAX);
        assert_eq!(ending.due_at, Timestamp::MAX);
    }
}

#[test]
fn no_item_is_postponed_beyond_the_bound() {
    for (what, result) in results() {
        let ending = decide(&result, &item(1, RECENT), &policy(None, None), now());
        let wait = ending.due_at.duration_since(now());
        assert!(!wait.is_negative() && wait <= PUT_OFF_MAX, "{what}: {wait:#}");
    }
}

#[test]
fn the_idempotency_key_is_new_for_each_counted_attempt_and_series() {
    let first = item(0, RECENT);
    let repeated = Claimed { epoch: 6, attempt_id: AttemptId::new(now()), ..first.clone() };
    assert_eq!(first.idempotency_key(), format!("{}.2.1", first.id));
    assert_eq!(first.idempotency_key(), repeated.idempotency_key());
    let next = Claimed { attempts: 1, ..first.clone() };
    let restarted = Claimed { series: 3, ..first.clone() };
    assert_ne!(first.idempotency_key(), next.idempotency_key());
    assert_ne!(first.idempotency_key(), restarted.idempotency_key());
}

/// An admin's rule by code overrides the plugin's classification; the longest matching pattern decides.
#[test]
fn failures_by_their_code() {
    let rule = |pattern: &str, then| CodeRule { pattern: pattern.to_owned(), then };
    let by_code = vec![
        rule("http-*", Then::Throttle(None)),
        rule("http-status-4*", Then::Stop),
        rule("http-status-429", Then::Throttle(Some(SignedDuration::from_secs(90)))),
        rule("no-user", Then::Retry),
    ];
    let policy = RetryPolicy { by_code, ..policy(Some(3), None) };
    let item = item(1, "2026-11-20T11:00:00Z");
    let mut text = "attempt 2 of 3\n".to_owned();
    for failure in [
        Failure::transient("http-timeout", "slow"),
        Failure::transient("http-status-404", "gone"),
        Failure::Permanent(ErrorInfo::new("http-status-429", "busy")),
        Failure::Permanent(ErrorInfo::new("no-user", "not yet")),
        Failure::Permanent(ErrorInfo::new("no-user-ever", "no rule")),
        Failure::Interrupted,
        Failure::host("no-user", "a rule says nothing about the host"),
    ] {
        let what = failure.error().map_or("interrupted".to_owned(), |error| error.code.clone());
        text += &line(&what, &decide(&Err(failure), &item, &policy, now()));
        text.push('\n');
    }
    expect![[r#"
        attempt 2 of 3
          http-timeout    retry        throttled    +120 s, attempts 1, error http-timeout: slow
          http-status-404 give_up      permanent    +0 s, attempts 2, error http-status-404: gone
          http-status-429 retry        throttled    +90 s, attempts 1, error http-status-429: busy
          no-user         retry        failed       +120 s, attempts 2, error no-user: not yet
          no-user-ever    give_up      permanent    +0 s, attempts 2, error no-user-ever: no rule
          interrupted     interrupted  interrupted  +0 s, attempts 1
          no-user         interrupted  host-failed  +120 s, attempts 1, error no-user: a rule says nothing about the host
    "#]]
    .assert_eq(&text);
}

/// The waits after consecutive answers that do not count, until a person has to decide.
fn waits(result: &Result<Outcome, Failure>, policy: &RetryPolicy, answers: u32) -> (Vec<i64>, Ending) {
    let mut item = item(1, RECENT);
    let mut waits = Vec::new();
    for _ in 0..answers {
        let ending = decide(result, &item, policy, now());
        if ending.event == Event::GiveUp {
            return (waits, ending);
        }
        assert_eq!((ending.event, ending.attempts), (Event::Retry, 1));
        waits.push(ending.due_at.duration_since(now()).as_secs());
        item.deferrals = ending.deferrals;
    }
    panic!("no end after {answers} answers: {waits:?}");
}

#[test]
fn answers_that_do_not_count_back_off_and_end() {
    let bounded = RetryPolicy { deferrals_max: Some(9), ..policy(Some(3), None) };
    let throttled =
        |retry_after| Err(Failure::Throttled { retry_after, error: ErrorInfo::new("busy", "no") });
    let second = SignedDuration::from_secs;
    let growing = [60, 120, 240, 480, 960, 1_920, 3_600, 3_600];
    for result in [throttled(second(0)), throttled(second(-5)), throttled(second(30))] {
        assert_eq!(waits(&result, &bounded, 9).0, growing);
    }
    let soon = Ok(Outcome::Snoozed { until: now() });
    let (snoozed, end) = waits(&soon, &bounded, 9);
    assert_eq!(snoozed, growing);
    assert_eq!((end.verdict, end.attempts, end.deferrals), (Verdict::Exhausted, 1, 0));
    let error = end.error.unwrap();
    assert_eq!(error.code, "deferrals-exhausted");
    assert_eq!(error.message, "put off 9 times in a row without a counted attempt; last: snoozed");
    assert_eq!(waits(&throttled(second(7_200)), &bounded, 9).0, [7_200; 8], "what asks for more gets it");

    let quick =
        RetryPolicy { min_delay: Some(second(5)), cap: second(20), base: second(1), ..bounded.clone() };
    assert_eq!(waits(&soon, &quick, 9).0, [5, 10, 20, 20, 20, 20, 20, 20]);
    let slow = RetryPolicy { min_delay: Some(second(50)), ..quick };
    assert_eq!(waits(&soon, &slow, 9).0, [50; 8], "the least wait may be above the cap");
}

#[test]
fn counted_answer_resets_the_number_of_deferrals() {
    let off = Claimed { deferrals: 7, ..item(1, RECENT) };
    for (what, result) in results() {
        let ending = decide(&result, &off, &policy(None, None), now());
        let expected = match what {
            "snoozed -1 h" => 0,
            "interrupted" | "host" => 7,
            _ if what.starts_with("snoozed") || what.starts_with("throttled") => 8,
            _ => 0,
        };
        assert_eq!(ending.deferrals, expected, "{what}");
    }
    let unbounded = RetryPolicy { deferrals_max: None, ..policy(None, None) };
    let last = Claimed { deferrals: u32::MAX, ..item(1, RECENT) };
    let snoozed = Ok(Outcome::Snoozed { until: now() });
    assert_eq!(decide(&snoozed, &last, &unbounded, now()).event, Event::Retry);
    let error = ErrorInfo::new("kv-raced", "raced");
    let host = Err(Failure::Postponed { retry_after: SignedDuration::from_millis(100), error });
    let ending = decide(&host, &Claimed { deferrals: 499, ..off }, &policy(None, None), now());
    assert_eq!(
        (ending.event, ending.deferrals),
        (Event::Retry, 499),
        "the host's own reasons are not bounded"
    );
}

#[test]
fn a_duration_in_place_of_an_instant_is_a_named_failure() {
    let duration = Outcome::Snoozed { until: Timestamp::from_millisecond(60_000).unwrap() };
    let ending = decide(&Ok(duration), &item(0, RECENT), &policy(Some(3), None), now());
    assert_eq!((ending.verdict, ending.attempts), (Verdict::Failed, 1));
    let error = ending.error.unwrap();
    assert_eq!(error.code, "snoozed-to-past");
    assert!(error.message.starts_with("snoozed until 1970-01-01T00:01:00Z, "), "{}", error.message);
    let late = Claimed { claimed_at: now() - SignedDuration::from_secs(9), ..item(0, RECENT) };
    let just_past = Ok(Outcome::Snoozed { until: now() - SignedDuration::from_secs(1) });
    let ending = decide(&just_past, &late, &policy(None, None), now());
    assert_eq!(ending.verdict, Verdict::Snoozed, "the instant passed while the attempt ran");
}
