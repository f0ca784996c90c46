//! Corrections of records of a clock that was ahead.

use domain::alert::{Alert, Severity};
use domain::schedule::Due;
use domain::schedule::tick::{Fate, Overlap};
use jiff::SignedDuration;
use test_support::on_both;

use super::support::{T, at, failed, job, lease, page, resolved};
use crate::attempts::locks::LockResult;

on_both! {
    schedule_is_rewound_and_no_instant_runs_twice,
    schedule_that_is_not_ahead_stays,
    jitter_hides_no_place_that_is_ahead,
    late_heartbeat_shows_a_clock_that_was_ahead,
    waits_are_counted_from_the_present,
    leases_and_locks_are_bounded,
    times_before_the_present_stay,
    absent_items_are_resolved_after_a_correction,
}

const HOUR: i64 = 3_600;
const DAYS: i64 = 48 * HOUR;

async fn tick(t: &T, seconds: i64, missed: &[i64]) -> Option<Fate> {
    let due = Due { at: at(seconds), missed: missed.iter().map(|seconds| at(*seconds)).collect() };
    t.store.jobs().tick(&job(), &due, at(seconds), at(seconds)).await.unwrap().map(|ticked| ticked.fate)
}

async fn finish_run(t: &T, now: i64) {
    let run = t.store.runs().claim(&job().name, lease(1, now)).await.unwrap().unwrap();
    t.put(&run, &job(), &page(&[], None), now).await;
}

async fn schedule_is_rewound_and_no_instant_runs_twice(t: T) {
    let name = job().name;
    for ahead in [HOUR, DAYS] {
        let base = 3 * ahead;
        t.store.jobs().put(&job(), at(base)).await.unwrap();
        t.tamper(&format!("UPDATE job SET ticked_at_ms = {}", at(base).as_millisecond())).await.unwrap();
        let jump = base + ahead;
        assert_eq!(tick(&t, jump, &[jump - 60, jump - 120]).await, Some(Fate::Ran));
        assert_eq!(tick(&t, jump + 60, &[]).await, Some(Fate::Overlap));
        assert!(t.store.hosts().rewind_schedule(&name, at(base + 12), at(base + 12)).await.unwrap());
        assert_eq!(t.store.jobs().ticked_at(&name).await.unwrap(), at(base + 12));
        assert!(!t.store.hosts().rewind_schedule(&name, at(base + 12), at(base + 12)).await.unwrap());
        finish_run(&t, base + 13).await;
        assert_eq!(tick(&t, base + 60, &[]).await, Some(Fate::Ran), "the next instant after the present");
        finish_run(&t, base + 61).await;
        assert_eq!(tick(&t, jump - 120, &[]).await, Some(Fate::Ran), "it was recorded, and did not run");
        finish_run(&t, jump - 119).await;
        assert_eq!(tick(&t, jump - 60, &[jump - 120]).await, Some(Fate::Ran));
        finish_run(&t, jump - 59).await;
        assert_eq!(tick(&t, jump, &[]).await, None, "it ran ahead of its time");
        assert_eq!(tick(&t, jump + 60, &[]).await, Some(Fate::Ran), "it was an overlap");
        finish_run(&t, jump + 61).await;
        assert_eq!(tick(&t, jump + 60, &[]).await, None);
    }
    assert_eq!(t.number("SELECT COUNT(*) AS n FROM audit WHERE action = 'schedule_rewound'").await, 2);
}

async fn schedule_that_is_not_ahead_stays(t: T) {
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    tick(&t, 60, &[]).await;
    for now in [56, 60, 600] {
        assert!(!t.store.hosts().rewind_schedule(&job().name, at(now), at(now)).await.unwrap(), "{now}");
    }
    assert_eq!(t.store.jobs().ticked_at(&job().name).await.unwrap(), at(60));
}

/// A job that starts an hour after its schedule sees a time that is an hour earlier.
async fn jitter_hides_no_place_that_is_ahead(t: T) {
    let name = job().name;
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    assert!(!t.store.hosts().rewind_schedule(&name, at(-HOUR), at(0)).await.unwrap(), "the job is new");
    let due = Due { at: at(-60), missed: vec![] };
    t.tamper(&format!("UPDATE job SET ticked_at_ms = {}", at(-HOUR).as_millisecond())).await.unwrap();
    t.store.jobs().tick(&job(), &due, at(-60), at(HOUR - 60)).await.unwrap().unwrap();
    assert!(
        t.store.hosts().rewind_schedule(&name, at(12 - HOUR), at(12)).await.unwrap(),
        "ahead of what it sees"
    );
    assert_eq!(t.store.jobs().ticked_at(&name).await.unwrap(), at(12 - HOUR));

    let mut buffered = job();
    buffered.ticks.overlap = Overlap::BufferOne;
    let due = Due { at: at(HOUR), missed: vec![] };
    let ticked = t.store.jobs().tick(&buffered, &due, at(HOUR), at(HOUR)).await.unwrap().unwrap();
    assert_eq!(ticked.fate, Fate::Buffered);
    assert!(t.store.hosts().rewind_schedule(&name, at(20), at(20)).await.unwrap());
    assert_eq!(
        t.store.jobs().start_buffered(&name, at(21)).await.unwrap(),
        (None, false),
        "its time has not come"
    );
}

async fn late_heartbeat_shows_a_clock_that_was_ahead(t: T) {
    assert_eq!(t.store.hosts().clock_ahead(|| at(0)).await.unwrap(), None, "there is no host yet");
    t.host_started(1, "alpha", 0).await;
    t.store.items().renew(lease(1, HOUR)).await.unwrap();
    t.store.items().renew(lease(1, 12)).await.unwrap();
    t.host_started(1, "alpha", 13).await;
    let ahead = t.store.hosts().clock_ahead(|| at(13)).await.unwrap();
    assert_eq!(ahead, Some(SignedDuration::from_secs(HOUR - 13)), "a restart does not hide it");
    assert_eq!(t.store.hosts().clock_ahead(|| at(HOUR)).await.unwrap(), None);
    t.store.hosts().raise_clock_alert(ahead.unwrap(), at(13)).await.unwrap();
    t.store.hosts().raise_clock_alert(ahead.unwrap(), at(14)).await.unwrap();
    let open = t.store.hosts().clock_alert().await.unwrap().unwrap();
    assert_eq!((open.times, open.alert.severity), (2, Severity::Error));
    t.store.hosts().correct_times(at(100), at(13)).await.unwrap();
    assert_eq!(t.store.hosts().clock_ahead(|| at(13)).await.unwrap(), None);
    assert_eq!(t.store.hosts().list(1).await.unwrap()[0].heartbeat_at, at(13));
}

async fn waits_are_counted_from_the_present(t: T) {
    for jump in [HOUR, DAYS] {
        let key = format!("k{jump}");
        t.attempt(&key, failed(), jump).await;
        t.tamper(&format!(
            "INSERT INTO kv (job, bucket, kv_key, value, updated_at_ms, expires_at_ms)
                VALUES ('wallet', 'b', '{key}', '1', {0}, {0} + 30000)",
            at(jump).as_millisecond()
        ))
        .await
        .unwrap();
        assert_eq!(t.store.items().next_due(&job().name).await.unwrap(), Some(at(jump + 10)));
        t.store.hosts().correct_times(at(27), at(12)).await.unwrap();
        assert_eq!(
            t.store.items().next_due(&job().name).await.unwrap(),
            Some(at(22)),
            "the backoff of 10 s is kept"
        );
        let item = t.claim_one(22).await;
        t.end(&item, resolved(), 23).await;
        let sql = format!("SELECT expires_at_ms AS n FROM kv WHERE kv_key = '{key}'");
        assert_eq!(t.number(&sql).await, at(42).as_millisecond());
    }
}

async fn leases_and_locks_are_bounded(t: T) {
    t.discover(&job(), &["a"], 0).await;
    assert_eq!(t.claim(1, DAYS).await.len(), 1);
    let LockResult::Token(_) = t.store.locks().take("ledger", "ada", at(DAYS + 60), at(DAYS)).await.unwrap()
    else {
        panic!("the lock is free");
    };
    let alert = Alert {
        kind: "K".to_owned(),
        key: String::new(),
        severity: Severity::Info,
        message: String::new(),
        metadata: String::new(),
    };
    t.store.alerts().raise(&job().name, &alert, at(DAYS)).await.unwrap();
    let lost = |now| t.store.items().recover(None, |_| 5, at(now));
    assert!(lost(12).await.unwrap().is_empty(), "its lease ends in two days");
    t.store.hosts().correct_times(at(27), at(12)).await.unwrap();
    assert!(lost(26).await.unwrap().is_empty(), "its host may be alive");
    assert_eq!(lost(28).await.unwrap().len(), 1);
    assert!(t.store.locks().get("ledger", at(71)).await.unwrap().is_some());
    assert!(t.store.locks().get("ledger", at(73)).await.unwrap().is_none(), "a minute from the present");
    assert_eq!(t.store.alerts().list(true, 10).await.unwrap()[0].first_at, at(12));
}

async fn times_before_the_present_stay(t: T) {
    t.host_started(1, "alpha", 0).await;
    t.store.jobs().put(&job(), at(0)).await.unwrap();
    tick(&t, 60, &[]).await;
    finish_run(&t, 60).await;
    t.attempt("a", failed(), 61).await;
    let of = |all: Vec<String>| all.into_iter().filter(|row| !row.starts_with("audit")).collect::<Vec<_>>();
    let before = of(t.everything().await);
    assert_eq!(t.store.hosts().correct_times(at(100), at(62)).await.unwrap(), 0);
    assert_eq!(of(t.everything().await), before, "a backoff lies after the present, and stays");
}

/// An item that a discovery saw under a clock that was ahead counts as seen until that time.
async fn absent_items_are_resolved_after_a_correction(t: T) {
    let mut job = job();
    job.resolve_when_absent = true;
    t.discover(&job, &["gone"], HOUR).await;
    t.store.hosts().correct_times(at(27), at(12)).await.unwrap();
    let (_, sum) = t.discover(&job, &["here"], 30).await;
    assert_eq!(sum.absent, 1);
}
