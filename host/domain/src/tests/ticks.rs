//! The fate of due instants for each policy.

use expect_test::expect;
use jiff::SignedDuration;

use super::at;
use crate::schedule::tick::{CatchUp, JobStatus, Overlap, TickPolicy};
use crate::schedule::{Due, Schedule};

const IDLE: JobStatus = JobStatus { open: false, paused: false };
const OPEN: JobStatus = JobStatus { open: true, paused: false };

/// Every ten minutes: the instants due after 12:00, evaluated at this time.
fn due(now: &str) -> Due {
    let ten = Schedule::every(SignedDuration::from_mins(10)).unwrap();
    ten.due(at("2026-11-20T12:00:00Z"), at(now)).unwrap()
}

fn line(what: &str, policy: &TickPolicy, status: JobStatus, time: &str) -> String {
    let now = format!("2026-11-20T{time}Z");
    let fates = policy.fates(&due(&now), status, at(&now));
    let fates: Vec<String> =
        fates.iter().map(|(at, fate)| format!("{} {}", &at.to_string()[11..16], fate.as_str())).collect();
    format!("{what:<34} {time}  {}\n", fates.join(", "))
}

fn with(change: impl FnOnce(&mut TickPolicy)) -> TickPolicy {
    let mut policy = TickPolicy::default();
    change(&mut policy);
    policy
}

#[test]
fn overlap() {
    let mut text = String::new();
    for (what, overlap) in [
        ("skip", Overlap::Skip),
        ("buffer-one", Overlap::BufferOne),
        ("cancel-other", Overlap::CancelOther),
        ("allow", Overlap::Allow),
    ] {
        let policy = with(|policy| policy.overlap = overlap);
        text += &line(what, &policy, IDLE, "12:10:00");
        text += &line(what, &policy, OPEN, "12:10:00");
        text += &line(what, &policy, OPEN, "12:31:30");
        let all = TickPolicy { catch_up: CatchUp::All(9), ..policy };
        text += &line(&format!("{what}, all"), &all, OPEN, "12:31:30");
    }
    expect![[r#"
        skip                               12:10:00  12:10 ran
        skip                               12:10:00  12:10 overlap
        skip                               12:31:30  12:30 overlap, 12:20 coalesced, 12:10 coalesced
        skip, all                          12:31:30  12:30 overlap, 12:20 overlap, 12:10 overlap
        buffer-one                         12:10:00  12:10 ran
        buffer-one                         12:10:00  12:10 buffered
        buffer-one                         12:31:30  12:30 buffered, 12:20 coalesced, 12:10 coalesced
        buffer-one, all                    12:31:30  12:30 buffered, 12:20 overlap, 12:10 overlap
        cancel-other                       12:10:00  12:10 ran
        cancel-other                       12:10:00  12:10 ran
        cancel-other                       12:31:30  12:30 ran, 12:20 coalesced, 12:10 coalesced
        cancel-other, all                  12:31:30  12:30 ran, 12:20 ran, 12:10 ran
        allow                              12:10:00  12:10 ran
        allow                              12:10:00  12:10 ran
        allow                              12:31:30  12:30 ran, 12:20 coalesced, 12:10 coalesced
        allow, all                         12:31:30  12:30 ran, 12:20 ran, 12:10 ran
    "#]]
    .assert_eq(&text);
}

#[test]
fn catch_up() {
    let mut text = String::new();
    let window = |policy: &mut TickPolicy| policy.catch_up_window = Some(SignedDuration::from_mins(15));
    for (what, catch_up) in
        [("none", CatchUp::None), ("last", CatchUp::Last), ("all, 2 at most", CatchUp::All(2))]
    {
        let policy = with(|policy| policy.catch_up = catch_up);
        for time in ["12:10:30", "12:15:00", "12:40:30", "12:47:00"] {
            text += &line(what, &policy, IDLE, time);
        }
        let mut narrow = policy.clone();
        window(&mut narrow);
        text += &line(&format!("{what}, within 15 min"), &narrow, IDLE, "12:47:00");
        text += &line(&format!("{what}, within 15 min"), &narrow, IDLE, "12:49:00");
    }
    expect![[r#"
        none                               12:10:30  12:10 ran
        none                               12:15:00  12:10 missed
        none                               12:40:30  12:40 ran, 12:30 missed, 12:20 missed, 12:10 missed
        none                               12:47:00  12:40 missed, 12:30 missed, 12:20 missed, 12:10 missed
        none, within 15 min                12:47:00  12:40 missed, 12:30 missed, 12:20 missed, 12:10 missed
        none, within 15 min                12:49:00  12:40 missed, 12:30 missed, 12:20 missed, 12:10 missed
        last                               12:10:30  12:10 ran
        last                               12:15:00  12:10 ran
        last                               12:40:30  12:40 ran, 12:30 coalesced, 12:20 coalesced, 12:10 coalesced
        last                               12:47:00  12:40 ran, 12:30 coalesced, 12:20 coalesced, 12:10 coalesced
        last, within 15 min                12:47:00  12:40 ran, 12:30 coalesced, 12:20 coalesced, 12:10 coalesced
        last, within 15 min                12:49:00  12:40 ran, 12:30 coalesced, 12:20 coalesced, 12:10 coalesced
        all, 2 at most                     12:10:30  12:10 ran
        all, 2 at most                     12:15:00  12:10 ran
        all, 2 at most                     12:40:30  12:40 ran, 12:30 ran, 12:20 missed, 12:10 missed
        all, 2 at most                     12:47:00  12:40 ran, 12:30 ran, 12:20 missed, 12:10 missed
        all, 2 at most, within 15 min      12:47:00  12:40 ran, 12:30 missed, 12:20 missed, 12:10 missed
        all, 2 at most, within 15 min      12:49:00  12:40 ran, 12:30 missed, 12:20 missed, 12:10 missed
    "#]].assert_eq(&text);
}

#[test]
fn deadlines_and_pauses() {
    let strict = with(|policy| policy.start_deadline = Some(SignedDuration::from_secs(30)));
    let paused = JobStatus { paused: true, open: true };
    let text = line("30 s", &strict, IDLE, "12:10:30")
        + &line("30 s", &strict, IDLE, "12:10:31")
        + &line("30 s", &strict, IDLE, "12:30:00")
        + &line("paused", &TickPolicy::default(), paused, "12:30:00");
    expect![[r#"
        30 s                               12:10:30  12:10 ran
        30 s                               12:10:31  12:10 late
        30 s                               12:30:00  12:30 ran, 12:20 late, 12:10 late
        paused                             12:30:00  12:30 paused, 12:20 paused, 12:10 paused
    "#]]
    .assert_eq(&text);
}

#[test]
fn jobs_are_spread_and_each_keeps_its_place() {
    let policy = with(|policy| policy.jitter = SignedDuration::from_secs(60));
    let offsets: Vec<i64> = (0..100).map(|n| policy.offset(&format!("job-{n}")).as_secs() as i64).collect();
    assert!(offsets.iter().all(|offset| (0..60).contains(offset)));
    let in_each_quarter = |quarter: i64| offsets.iter().filter(|offset| **offset / 15 == quarter).count();
    assert!((0..4).all(|quarter| in_each_quarter(quarter) > 10), "{offsets:?}");
    assert_eq!(policy.offset("wallets"), policy.offset("wallets"));
    assert_eq!(TickPolicy::default().offset("wallets"), SignedDuration::ZERO);
}
