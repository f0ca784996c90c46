//! A clock that was ahead for a moment, with a restart and without one.

use std::time::Duration;

use domain::failure::Failure;
use domain::job::JobSpec;
use domain::schedule::Schedule;
use domain::schedule::tick::Overlap;
use jiff::{SignedDuration, Timestamp};
use test_support::on_both;

use super::world::{Host, World, at, each_minute, job};
use crate::steadiness::Steadiness;

on_both![
    a_clock_that_was_an_hour_ahead_silences_no_schedule,
    a_clock_that_was_two_days_ahead_silences_no_schedule,
    a_restart_does_not_hide_that_the_clock_was_ahead,
    an_instant_that_was_late_by_a_clock_ahead_runs_in_time,
    item_postponed_by_a_clock_that_was_ahead_is_due_soon,
];

/// Waits until the audit trail contains `action`. There is no notification for it, so the store is polled.
async fn until_audited(host: &Host, action: &str) {
    let found = async {
        while host.store.audit().list(100).await.unwrap().iter().all(|entry| entry.action != action) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect(action);
}

async fn until_alerted(host: &Host) {
    let found = async {
        while host.store.hosts().clock_alert().await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("an alert");
}

async fn ticks_of(host: &Host, fate: &str) -> Vec<Timestamp> {
    let ticks = host.store.jobs().ticks("job", 1_000).await.unwrap();
    ticks.into_iter().filter(|tick| tick.fate == fate).map(|tick| tick.at).collect()
}

async fn story(world: World, ahead: SignedDuration, restart: bool) {
    let mut host = world.host("h1", &[each_minute()]).await;
    world.advance(30);
    world.until_count("h1 discovered", 1).await;
    let before = world.clock.now();
    world.clock.set(before + ahead);
    world.until_count("h1 discovered", 2).await;
    world.until_renewed(&host).await;
    if restart {
        host.stop().await;
        drop(host);
        world.clock.set(before + SignedDuration::from_secs(12));
        host = world.host("h1", &[each_minute()]).await;
    } else {
        world.clock.set(before + SignedDuration::from_secs(12));
    }
    until_audited(&host, "schedule_rewound").await;
    world.clock.set(at("12:02:00"));
    world.until_count("h1 discovered", 3).await;
    let ran = ticks_of(&host, "ran").await;
    assert_eq!(ran, [before + ahead, at("12:02:00"), at("12:01:00")]);
    until_alerted(&host).await;
}

async fn a_clock_that_was_an_hour_ahead_silences_no_schedule(world: World) {
    story(world, SignedDuration::from_hours(1), false).await;
}

async fn a_clock_that_was_two_days_ahead_silences_no_schedule(world: World) {
    story(world, SignedDuration::from_hours(48), false).await;
}

async fn a_restart_does_not_hide_that_the_clock_was_ahead(world: World) {
    story(world, SignedDuration::from_hours(1), true).await;
}

async fn an_instant_that_was_late_by_a_clock_ahead_runs_in_time(world: World) {
    let instants = vec![at("12:30:00")];
    let mut once = JobSpec { schedule: Schedule::at(instants).unwrap(), ..job() };
    once.ticks.start_deadline = Some(SignedDuration::from_secs(5));
    once.ticks.overlap = Overlap::BufferOne;
    let host = world.host("h1", &[once]).await;
    world.clock.set(at("14:00:00"));
    world.until_seen("h1 ticked late").await;
    world.clock.set(at("12:01:00"));
    until_audited(&host, "schedule_rewound").await;
    world.clock.set(at("12:30:00"));
    world.until_seen("h1 ticked ran").await;
    assert_eq!(host.ticks().await, "12:30:00Z ran\n");
}

async fn item_postponed_by_a_clock_that_was_ahead_is_due_soon(world: World) {
    world.script.finds(&["a"]);
    world.script.fails("a", [Failure::transient("flaky", "try later")]);
    let host = world.host("h1", &[job()]).await;
    world.clock.set(at("14:00:00"));
    world.until_renewed(&host).await;
    host.trigger().await;
    world.until_seen("h1 attempt-ended a failed").await;
    world.clock.set(at("12:01:00"));
    until_alerted(&host).await;
    assert_eq!(host.item("a").await.unwrap().due_at, at("14:01:00"), "the clock may be behind for a moment");
    world.clock.set(at("12:02:10"));
    until_audited(&host, "times_corrected").await;
    assert_eq!(host.item("a").await.unwrap().due_at, at("12:03:10"), "the backoff of a minute is kept");
    world.clock.set(at("12:03:10"));
    world.until_seen("h1 attempt-ended a resolved").await;
}

#[test]
fn a_clock_that_was_set_is_not_trusted_to_remove_anything() {
    let steadiness = Steadiness::default();
    let lease = SignedDuration::from_secs(15);
    assert!(steadiness.is_steady() && steadiness.tells_lapsed(lease));
    assert!(!steadiness.was_set(SignedDuration::from_secs(1)), "hosts differ by as much");
    assert!(steadiness.is_steady());
    for by in [SignedDuration::from_hours(1), SignedDuration::from_hours(-48)] {
        assert!(steadiness.was_set(by));
        assert!(!steadiness.is_steady() && !steadiness.tells_lapsed(lease));
    }
    assert!(steadiness.tells_lapsed(SignedDuration::ZERO), "a lease's time after it was set");
}
