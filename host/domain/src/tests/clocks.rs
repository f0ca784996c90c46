//! Manual and scaled clocks.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::at;
use crate::clock::{Clock, SLACK};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_manual_clock_wakes_each_sleeper_when_it_is_moved() {
    let start = at("2026-11-20T12:00:00Z");
    let Clock::Manual(clock) = Clock::manual(start) else { panic!("a manual clock") };
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let minute = SignedDuration::from_mins(1);
    let mut soon = pin!(clock.reaches(start + minute));
    let mut late = pin!(clock.clone().reaches(start + minute * 2));
    assert_eq!(pin!(clock.reaches(start)).poll(&mut cx), Poll::Ready(()), "it is there already");
    assert_eq!(soon.as_mut().poll(&mut cx), Poll::Pending);
    assert_eq!(late.as_mut().poll(&mut cx), Poll::Pending);

    clock.advance(SignedDuration::from_millis(59_999));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 2, "each looks again");
    assert_eq!(soon.as_mut().poll(&mut cx), Poll::Pending);
    assert_eq!(late.as_mut().poll(&mut cx), Poll::Pending);

    clock.advance(SignedDuration::from_millis(1));
    assert_eq!(wakes.0.load(Ordering::Relaxed), 4);
    assert_eq!(soon.as_mut().poll(&mut cx), Poll::Ready(()));
    assert_eq!(late.as_mut().poll(&mut cx), Poll::Pending);
    clock.advance(minute);
    assert_eq!(late.as_mut().poll(&mut cx), Poll::Ready(()));
    assert_eq!(clock.now(), start + minute * 2);
}

#[test]
fn manual_clock_moves_only_when_set_and_stops_at_the_maximum() {
    let clock = Clock::manual(at("2026-11-20T12:00:00Z"));
    assert_eq!(clock.now(), clock.now());
    assert_eq!(clock.real_wait(clock.now()), None, "only a test can move it");
    let Clock::Manual(hands) = &clock else { panic!("a manual clock") };
    hands.advance(SignedDuration::MAX);
    assert_eq!(clock.now(), Timestamp::MAX);
}

#[test]
fn scaled_clock_runs_faster() {
    let clock = Clock::scaled(1_000.0, Timestamp::now());
    let (began, start) = (Instant::now(), clock.now());
    while clock.now().duration_since(start) < SignedDuration::from_secs(10) {
        std::hint::spin_loop();
    }
    let real = began.elapsed();
    assert!(real >= Duration::from_millis(9), "10 s at 1,000 a second took only {real:?}");
    assert!(clock.now().duration_since(Timestamp::now()) > SignedDuration::from_secs(5));
    let (asked, second) = (Instant::now(), Duration::from_secs(1));
    let wait = clock.real_wait(clock.now() + SignedDuration::from_secs(1_000)).unwrap();
    let rounding = Duration::from_millis(1);
    assert!(wait <= second && wait + asked.elapsed() + rounding >= second, "{wait:?}");
    assert_eq!(clock.real_wait(start), Some(Duration::ZERO), "what is past needs no wait");
}

#[test]
fn correction_of_a_steady_clock_applies_to_its_clones() {
    let clock = Clock::steady();
    let seen = clock.clone();
    assert!(clock.now().duration_since(Timestamp::now()).abs() < SignedDuration::from_secs(5));
    let wait = clock.real_wait(clock.now() + SignedDuration::from_secs(100)).unwrap();
    assert!(wait <= Duration::from_secs(100) && wait > Duration::from_secs(50), "{wait:?}");

    for other in ["2038-01-19T03:14:08Z", "1999-12-31T23:59:59Z"].map(at) {
        assert_ne!(clock.correct(other), SignedDuration::ZERO);
        let out = seen.now().duration_since(other);
        assert!(!out.is_negative() && out < SignedDuration::from_secs(5), "{out:?}");
        assert_eq!(clock.correct(seen.now() + SLACK / 2), SignedDuration::ZERO, "too little to be set by");
    }
    let manual = Clock::manual(at("2026-11-20T12:00:00Z"));
    assert_eq!(manual.correct(Timestamp::MAX), SignedDuration::ZERO, "it shows a time of its own");
    assert_eq!(manual.now(), at("2026-11-20T12:00:00Z"));
}
