//! When jobs are due: grids, cron texts, zones, the two nights a year with a change of offset, long absences.

use expect_test::expect;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::at;
use crate::schedule::cron::OddNights;
use crate::schedule::{MISSED_MAX, Schedule};

fn cron(text: &str, zone: &str) -> Schedule {
    Schedule::cron(text, zone, OddNights::default(), at("2026-01-01T00:00:00Z")).unwrap()
}

fn every(seconds: i64) -> Schedule {
    Schedule::every(SignedDuration::from_secs(seconds)).unwrap()
}

/// The next instants after `from`, with the zone's local time and offset.
fn preview(schedule: &Schedule, zone: &str, from: &str, count: usize) -> String {
    let zone = TimeZone::get(zone).unwrap();
    let line = |instant: Timestamp| {
        let local = instant.to_zoned(zone.clone()).strftime("%a %d %b %H:%M:%S %:z").to_string();
        format!("{instant}  {local}\n")
    };
    schedule.instants_after(at(from)).take(count).map(line).collect()
}

#[test]
fn intervals_follow_a_grid_that_all_hosts_share() {
    let ten = every(10);
    for from in ["2026-11-20T12:00:00Z", "2026-11-20T12:00:00.001Z", "2026-11-20T12:00:09.999Z"] {
        assert_eq!(ten.next_after(at(from)), Some(at("2026-11-20T12:00:10Z")), "{from}");
    }
    assert_eq!(every(86_400).next_after(at("2026-11-20T12:00:00Z")), Some(at("2026-11-21T00:00:00Z")));
    let odd = Schedule::every(SignedDuration::from_millis(1_500)).unwrap();
    assert_eq!(odd.next_after(at("1970-01-01T00:00:00Z")), Some(at("1970-01-01T00:00:01.5Z")));
    assert_eq!(ten.next_after(at("1969-12-31T23:59:51Z")), Some(at("1970-01-01T00:00:00Z")));
    let longest = Schedule::every(SignedDuration::MAX).unwrap();
    assert_eq!(longest.next_after(at("2026-11-20T12:00:00Z")), None);
    assert_eq!(ten.next_after(Timestamp::MAX), None);
}

#[test]
fn a_manual_schedule_is_never_due() {
    assert_eq!(Schedule::Manual.next_after(at("2026-01-01T00:00:00Z")), None);
    assert_eq!(Schedule::Manual.due(Timestamp::MIN, Timestamp::MAX), None);
}

#[test]
fn cron_texts() {
    let mut text = String::new();
    let texts = [
        "* * * * *",
        "*/20 * * * * *",
        "@daily",
        "@hourly",
        "30 9 * jan-mar mon-fri",
        "0 12 29 2 *",
        "0 0 L * *",
    ];
    for line in texts {
        let schedule = cron(line, "UTC");
        text.push_str(&format!("{schedule}\n{}", preview(&schedule, "UTC", "2026-01-30T23:59:30Z", 3)));
    }
    expect![[r#"
        cron * * * * * (UTC)
        2026-01-31T00:00:00Z  Sat 31 Jan 00:00:00 +00:00
        2026-01-31T00:01:00Z  Sat 31 Jan 00:01:00 +00:00
        2026-01-31T00:02:00Z  Sat 31 Jan 00:02:00 +00:00
        cron */20 * * * * * (UTC)
        2026-01-30T23:59:40Z  Fri 30 Jan 23:59:40 +00:00
        2026-01-31T00:00:00Z  Sat 31 Jan 00:00:00 +00:00
        2026-01-31T00:00:20Z  Sat 31 Jan 00:00:20 +00:00
        cron @daily (UTC)
        2026-01-31T00:00:00Z  Sat 31 Jan 00:00:00 +00:00
        2026-02-01T00:00:00Z  Sun 01 Feb 00:00:00 +00:00
        2026-02-02T00:00:00Z  Mon 02 Feb 00:00:00 +00:00
        cron @hourly (UTC)
        2026-01-31T00:00:00Z  Sat 31 Jan 00:00:00 +00:00
        2026-01-31T01:00:00Z  Sat 31 Jan 01:00:00 +00:00
        2026-01-31T02:00:00Z  Sat 31 Jan 02:00:00 +00:00
        cron 30 9 * jan-mar mon-fri (UTC)
        2026-02-02T09:30:00Z  Mon 02 Feb 09:30:00 +00:00
        2026-02-03T09:30:00Z  Tue 03 Feb 09:30:00 +00:00
        2026-02-04T09:30:00Z  Wed 04 Feb 09:30:00 +00:00
        cron 0 12 29 2 * (UTC)
        2028-02-29T12:00:00Z  Tue 29 Feb 12:00:00 +00:00
        2032-02-29T12:00:00Z  Sun 29 Feb 12:00:00 +00:00
        2036-02-29T12:00:00Z  Fri 29 Feb 12:00:00 +00:00
        cron 0 0 L * * (UTC)
        2026-01-31T00:00:00Z  Sat 31 Jan 00:00:00 +00:00
        2026-02-28T00:00:00Z  Sat 28 Feb 00:00:00 +00:00
        2026-03-31T00:00:00Z  Tue 31 Mar 00:00:00 +00:00
    "#]]
    .assert_eq(&text);
}

#[test]
fn zones_move_the_hour() {
    let nine = |zone| preview(&cron("0 9 * * *", zone), zone, "2026-03-27T12:00:00Z", 3);
    let text = nine("Europe/Berlin") + &nine("America/New_York") + &nine("Asia/Kolkata");
    expect![[r#"
        2026-03-28T08:00:00Z  Sat 28 Mar 09:00:00 +01:00
        2026-03-29T07:00:00Z  Sun 29 Mar 09:00:00 +02:00
        2026-03-30T07:00:00Z  Mon 30 Mar 09:00:00 +02:00
        2026-03-27T13:00:00Z  Fri 27 Mar 09:00:00 -04:00
        2026-03-28T13:00:00Z  Sat 28 Mar 09:00:00 -04:00
        2026-03-29T13:00:00Z  Sun 29 Mar 09:00:00 -04:00
        2026-03-28T03:30:00Z  Sat 28 Mar 09:00:00 +05:30
        2026-03-29T03:30:00Z  Sun 29 Mar 09:00:00 +05:30
        2026-03-30T03:30:00Z  Mon 30 Mar 09:00:00 +05:30
    "#]]
    .assert_eq(&text);
}

/// Half past two does not exist in the night when clocks go forward.
#[test]
fn a_time_in_the_gap_fires_at_its_end() {
    let berlin = preview(&cron("30 2 * * *", "Europe/Berlin"), "Europe/Berlin", "2026-03-27T12:00:00Z", 4);
    let york =
        preview(&cron("30 2 * * *", "America/New_York"), "America/New_York", "2026-03-06T12:00:00Z", 4);
    let howe =
        preview(&cron("15 2 * * *", "Australia/Lord_Howe"), "Australia/Lord_Howe", "2026-10-02T00:00:00Z", 4);
    expect![[r#"
        2026-03-28T01:30:00Z  Sat 28 Mar 02:30:00 +01:00
        2026-03-29T01:00:00Z  Sun 29 Mar 03:00:00 +02:00
        2026-03-30T00:30:00Z  Mon 30 Mar 02:30:00 +02:00
        2026-03-31T00:30:00Z  Tue 31 Mar 02:30:00 +02:00

        2026-03-07T07:30:00Z  Sat 07 Mar 02:30:00 -05:00
        2026-03-08T07:00:00Z  Sun 08 Mar 03:00:00 -04:00
        2026-03-09T06:30:00Z  Mon 09 Mar 02:30:00 -04:00
        2026-03-10T06:30:00Z  Tue 10 Mar 02:30:00 -04:00

        2026-10-02T15:45:00Z  Sat 03 Oct 02:15:00 +10:30
        2026-10-03T15:30:00Z  Sun 04 Oct 02:30:00 +11:00
        2026-10-04T15:15:00Z  Mon 05 Oct 02:15:00 +11:00
        2026-10-05T15:15:00Z  Tue 06 Oct 02:15:00 +11:00
    "#]]
    .assert_eq(&[berlin, york, howe].join("\n"));
}

/// Half past two comes twice in the night when clocks go back.
#[test]
fn a_time_in_the_fold_fires_once() {
    let berlin = preview(&cron("30 2 * * *", "Europe/Berlin"), "Europe/Berlin", "2026-10-23T12:00:00Z", 4);
    let york =
        preview(&cron("30 1 * * *", "America/New_York"), "America/New_York", "2026-10-30T12:00:00Z", 4);
    let howe =
        preview(&cron("45 1 * * *", "Australia/Lord_Howe"), "Australia/Lord_Howe", "2026-04-03T00:00:00Z", 4);
    expect![[r#"
        2026-10-24T00:30:00Z  Sat 24 Oct 02:30:00 +02:00
        2026-10-25T00:30:00Z  Sun 25 Oct 02:30:00 +02:00
        2026-10-26T01:30:00Z  Mon 26 Oct 02:30:00 +01:00
        2026-10-27T01:30:00Z  Tue 27 Oct 02:30:00 +01:00

        2026-10-31T05:30:00Z  Sat 31 Oct 01:30:00 -04:00
        2026-11-01T05:30:00Z  Sun 01 Nov 01:30:00 -04:00
        2026-11-02T06:30:00Z  Mon 02 Nov 01:30:00 -05:00
        2026-11-03T06:30:00Z  Tue 03 Nov 01:30:00 -05:00

        2026-04-03T14:45:00Z  Sat 04 Apr 01:45:00 +11:00
        2026-04-04T14:45:00Z  Sun 05 Apr 01:45:00 +11:00
        2026-04-05T15:15:00Z  Mon 06 Apr 01:45:00 +10:30
        2026-04-06T15:15:00Z  Tue 07 Apr 01:45:00 +10:30
    "#]]
    .assert_eq(&[berlin, york, howe].join("\n"));
}

#[test]
fn each_half_hour_of_the_odd_nights() {
    let half_hours = |zone, from| preview(&cron("*/30 * * * *", zone), zone, from, 7);
    let berlin = half_hours("Europe/Berlin", "2026-03-29T00:00:00Z")
        + &half_hours("Europe/Berlin", "2026-10-24T23:30:00Z");
    let howe = half_hours("Australia/Lord_Howe", "2026-10-03T14:30:00Z")
        + &half_hours("Australia/Lord_Howe", "2026-04-04T13:45:00Z");
    expect![[r#"
        2026-03-29T00:30:00Z  Sun 29 Mar 01:30:00 +01:00
        2026-03-29T01:00:00Z  Sun 29 Mar 03:00:00 +02:00
        2026-03-29T01:30:00Z  Sun 29 Mar 03:30:00 +02:00
        2026-03-29T02:00:00Z  Sun 29 Mar 04:00:00 +02:00
        2026-03-29T02:30:00Z  Sun 29 Mar 04:30:00 +02:00
        2026-03-29T03:00:00Z  Sun 29 Mar 05:00:00 +02:00
        2026-03-29T03:30:00Z  Sun 29 Mar 05:30:00 +02:00
        2026-10-25T00:00:00Z  Sun 25 Oct 02:00:00 +02:00
        2026-10-25T00:30:00Z  Sun 25 Oct 02:30:00 +02:00
        2026-10-25T01:00:00Z  Sun 25 Oct 02:00:00 +01:00
        2026-10-25T01:30:00Z  Sun 25 Oct 02:30:00 +01:00
        2026-10-25T02:00:00Z  Sun 25 Oct 03:00:00 +01:00
        2026-10-25T02:30:00Z  Sun 25 Oct 03:30:00 +01:00
        2026-10-25T03:00:00Z  Sun 25 Oct 04:00:00 +01:00

        2026-10-03T15:00:00Z  Sun 04 Oct 01:30:00 +10:30
        2026-10-03T15:30:00Z  Sun 04 Oct 02:30:00 +11:00
        2026-10-03T16:00:00Z  Sun 04 Oct 03:00:00 +11:00
        2026-10-03T16:30:00Z  Sun 04 Oct 03:30:00 +11:00
        2026-10-03T17:00:00Z  Sun 04 Oct 04:00:00 +11:00
        2026-10-03T17:30:00Z  Sun 04 Oct 04:30:00 +11:00
        2026-10-03T18:00:00Z  Sun 04 Oct 05:00:00 +11:00
        2026-04-04T14:00:00Z  Sun 05 Apr 01:00:00 +11:00
        2026-04-04T14:30:00Z  Sun 05 Apr 01:30:00 +11:00
        2026-04-04T15:00:00Z  Sun 05 Apr 01:30:00 +10:30
        2026-04-04T15:30:00Z  Sun 05 Apr 02:00:00 +10:30
        2026-04-04T16:00:00Z  Sun 05 Apr 02:30:00 +10:30
        2026-04-04T16:30:00Z  Sun 05 Apr 03:00:00 +10:30
        2026-04-04T17:00:00Z  Sun 05 Apr 03:30:00 +10:30
    "#]]
    .assert_eq(&format!("{berlin}\n{howe}"));
}

/// Checks that `instant` follows `from`: searching forward from between them, and searching back from after
/// it.
fn check_both_ways(schedule: &Schedule, from: Timestamp, instant: Timestamp, wrong: &mut String) {
    let between = instant - (instant.duration_since(from) / 3).min(SignedDuration::from_mins(20));
    if schedule.next_after(between) != Some(instant) || instant <= from {
        wrong.push_str(&format!("{schedule}: {instant} is not next after {between}\n"));
    }
    let late = instant + SignedDuration::from_millis(999);
    let due = schedule.due(from, late).map(|due| (due.at, due.missed.len()));
    if due != Some((instant, 0)) {
        wrong.push_str(&format!("{schedule}: at {late}, after {from}: {due:?}, not {instant}\n"));
    }
}

/// Searching forward and back finds the same instants. Otherwise a tick would be lost or run twice.
#[test]
fn last_until_and_next_after_find_the_same_instants() {
    let texts = [
        "30 2 * * *",
        "15 2 * * *",
        "45 1 * * *",
        "*/20 * * * *",
        "0 * * * *",
        "*/30 1-3 * * *",
        "59 59 1 * * *",
    ];
    let nights = [
        ("Europe/Berlin", ["2026-03-29", "2026-10-25"]),
        ("America/New_York", ["2026-03-08", "2026-11-01"]),
        ("Australia/Lord_Howe", ["2026-04-05", "2026-10-04"]),
    ];
    let hours = SignedDuration::from_hours;
    let mut wrong = String::new();
    for ((zone, dates), text) in nights.iter().flat_map(|night| texts.map(|text| (night, text))) {
        let schedule = cron(text, zone);
        for date in dates {
            let noon = at(&format!("{date}T12:00:00Z"));
            let mut from = noon - hours(40);
            for instant in schedule.instants_after(from).take_while(|instant| *instant < noon + hours(24)) {
                check_both_ways(&schedule, from, instant, &mut wrong);
                from = instant;
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn instant_is_due_once() {
    let minute = cron("* * * * *", "Europe/Berlin");
    let start = at("2026-11-20T12:00:00Z");
    assert_eq!(minute.due(start, start), None, "it was acted on");
    assert_eq!(minute.due(start, at("2026-11-20T12:00:59.999Z")), None);
    for now in ["2026-11-20T12:01:00Z", "2026-11-20T12:01:00.001Z", "2026-11-20T12:01:59.999Z"] {
        let due = minute.due(start, at(now)).unwrap();
        assert_eq!((due.at, due.missed), (at("2026-11-20T12:01:00Z"), vec![]), "{now}");
    }
    assert_eq!(minute.due(at("2026-11-20T12:05:00Z"), start), None, "a clock that was set back");
}

#[test]
fn after_a_long_absence_the_last_instant_is_due_and_the_missed_ones_are_bounded() {
    let start = at("2026-11-20T12:00:00Z");
    for schedule in [cron("* * * * *", "Europe/Berlin"), every(60)] {
        let due = schedule.due(start, start + SignedDuration::from_secs(330)).unwrap();
        let minute = |n: i64| start + SignedDuration::from_mins(n);
        assert_eq!(due.at, minute(5));
        assert_eq!(due.missed, [4, 3, 2, 1].map(minute), "newest first; the one acted on is not among them");

        let due = schedule.due(start, start + SignedDuration::from_hours(24 * 400)).unwrap();
        let last = start + SignedDuration::from_hours(24 * 400);
        assert_eq!((due.at, due.missed.len()), (last, MISSED_MAX));
        assert_eq!(due.missed.first(), Some(&(last - SignedDuration::from_mins(1))));
        assert_eq!(due.missed.last(), Some(&(last - SignedDuration::from_mins(100))));
    }
}

#[test]
fn schedule_errors_give_the_reason() {
    let now = at("2026-01-01T00:00:00Z");
    let texts = [
        "",
        " ",
        "* * * *",
        "60 * * * *",
        "* * 32 * *",
        "* * * * fun",
        "*/0 * * * *",
        "@fortnightly",
        "5-1 * * * *",
        "0 0 30 2 *",
        "0 0 0 1 1 * 2020",
        "0 0 0 1 1 * 2050",
        "a b c d e",
        "* * * * *\n* * * * *",
        "-1 * * * *",
        "99999999999999999999 * * * *",
    ];
    let mut report = String::new();
    for text in texts {
        let result = Schedule::cron(text, "UTC", OddNights::default(), now)
            .map_or_else(|e| e.to_string(), |s| format!("fine: {s}"));
        report.push_str(&format!("{text:?}: {result}\n"));
    }
    for zone in ["", "Mars/Olympus", "europe/berlin", "+02:00", "CET"] {
        let result = Schedule::cron("* * * * *", zone, OddNights::default(), now)
            .map_or_else(|e| e.to_string(), |s| format!("fine: {s}"));
        report.push_str(&format!("{zone:?}: {result}\n"));
    }
    for interval in [SignedDuration::from_millis(999), SignedDuration::ZERO, SignedDuration::from_secs(-60)] {
        report.push_str(&format!("{}\n", Schedule::every(interval).unwrap_err()));
    }
    expect![[r#"
        "": cron text "" is not valid: it has 0 fields, not 5, or 6 with the second first (use 5 or 6 fields like "*/5 * * * *", or @daily)
        " ": cron text " " is not valid: it has 0 fields, not 5, or 6 with the second first (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "* * * *": cron text "* * * *" is not valid: it has 4 fields, not 5, or 6 with the second first (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "60 * * * *": cron text "60 * * * *" is not valid: minute "60": 60 is not between 0 and 59 (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "* * 32 * *": cron text "* * 32 * *" is not valid: day of the month "32": 32 is not between 1 and 31 (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "* * * * fun": cron text "* * * * fun" is not valid: day of the week "fun": "fun" is neither a number nor a name like "sun" or "mon" (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "*/0 * * * *": cron text "*/0 * * * *" is not valid: minute "*/0": a step of 0 goes nowhere: write a step of at least 1 (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "@fortnightly": cron text "@fortnightly" is not valid: "@fortnightly" is not known: write @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "5-1 * * * *": cron text "5-1 * * * *" is not valid: minute "5-1": the range goes backwards: write 5-59,0-1 (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "0 0 30 2 *": cron text "0 0 30 2 *" never fires
        "0 0 0 1 1 * 2020": cron text "0 0 0 1 1 * 2020" is not valid: it has 7 fields, not 5, or 6 with the second first (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "0 0 0 1 1 * 2050": cron text "0 0 0 1 1 * 2050" is not valid: it has 7 fields, not 5, or 6 with the second first (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "a b c d e": cron text "a b c d e" is not valid: minute "a": "a" is neither a number nor *, a range (1-5) or a step (*/5) (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "* * * * *\n* * * * *": cron text "* * * * *\n* * * * *" is not valid: it has several lines (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "-1 * * * *": cron text "-1 * * * *" is not valid: minute "-1": "" is neither a number nor *, a range (1-5) or a step (*/5) (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "99999999999999999999 * * * *": cron text "99999999999999999999 * * * *" is not valid: minute "99999999999999999999": 99999999999999999999 is not between 0 and 59 (use 5 or 6 fields like "*/5 * * * *", or @daily)
        "": time zone "" is not known (use an IANA name like "Europe/Berlin")
        "Mars/Olympus": time zone "Mars/Olympus" is not known (use an IANA name like "Europe/Berlin")
        "europe/berlin": fine: cron * * * * * (europe/berlin)
        "+02:00": time zone "+02:00" is not known (use an IANA name like "Europe/Berlin")
        "CET": fine: cron * * * * * (CET)
        an interval of 999ms is below the least of 1 s
        an interval of 0s is below the least of 1 s
        an interval of 1m ago is below the least of 1 s
    "#]].assert_eq(&report);
}

#[test]
fn schedules_in_words() {
    let text = format!("{}; {}; {}", every(90), cron("@daily", "Asia/Kolkata"), Schedule::Manual);
    assert_eq!(text, "every 1m 30s; cron @daily (Asia/Kolkata); manual");
}

/// The next days of the year on which a text fires.
fn days(text: &str, count: usize) -> String {
    let schedule = cron(text, "UTC");
    let day = |instant: Timestamp| instant.to_zoned(TimeZone::UTC).strftime("%a %d").to_string();
    let days: Vec<String> =
        schedule.instants_after(at("2026-03-01T00:00:00Z")).take(count).map(day).collect();
    days.join(", ")
}

/// crontab(5) of cronie, and `find_jobs` in its cron.c: a field that begins with * sets a flag, and with a
/// flag both fields must match.
#[test]
fn day_fields_combine_as_in_cronie() {
    assert_eq!(days("0 9 13 * fri", 5), "Fri 06, Fri 13, Fri 20, Fri 27, Fri 03");
    assert_eq!(days("0 9 1,15 * mon", 5), "Sun 01, Mon 02, Mon 09, Sun 15, Mon 16");
    assert_eq!(days("0 9 */2 * 1", 4), "Mon 09, Mon 23, Mon 13, Mon 27");
    assert_eq!(days("0 9 1-31/2 * 1", 5), "Sun 01, Mon 02, Tue 03, Thu 05, Sat 07");
    assert_eq!(days("0 9 10-16 * */2", 4), "Tue 10, Thu 12, Sat 14, Sun 15");
    assert_eq!(days("0 9 * * 7", 3), "Sun 01, Sun 08, Sun 15");
    assert_eq!(days("0 9 1 * *", 2), "Sun 01, Wed 01");
    assert_eq!(days("0 9 */1 * 5", 2), "Fri 06, Fri 13");
    let rule = |text: &str| cron(text, "UTC").days_rule().map(|rule| rule.contains("both"));
    let rules = ["0 9 13 * fri", "0 9 */2 * 1", "0 9 * * 1", "0 9 13 * *", "@daily", "0 9 */1 * 5"].map(rule);
    assert_eq!(rules, [Some(false), Some(true), None, None, None, None]);
}

#[test]
fn each_field_has_its_meaning() {
    let fires =
        |text: &str| cron(text, "UTC").instants_after(at("2026-03-01T00:00:00Z")).take(3).collect::<Vec<_>>();
    for (text, same) in [
        ("@midnight", "0 0 * * *"),
        ("@daily", "0 0 * * *"),
        ("@HOURLY", "0 * * * *"),
        ("@weekly", "0 0 * * sun"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 jan *"),
        ("@annually", "0 0 1 1 *"),
        ("0 0 * * mon-5", "0 0 * * 1-5"),
        ("0 0 * * 5-7", "0 0 * * fri,sat,sun"),
        ("0 0 * Mar-5 *", "0 0 * 3,4,5 *"),
        ("0,30 * * * *", "*/30 * * * *"),
        ("5,1,5 * * * *", "1,5 * * * *"),
        ("*/59 * * * *", "0,59 * * * *"),
        ("0 0 * * 1-7/2", "0 0 * * 0,1,3,5"),
        ("0-59 0-23 1-31 1-12 0-7", "* * * * *"),
        ("01 02 03 04 *", "1 2 3 4 *"),
    ] {
        assert_eq!(fires(text), fires(same), "{text}");
    }
}

const MEANINGLESS: [&str; 35] = [
    "*/90 * * * *",
    "*/60 * * * *",
    "0 */24 * * *",
    "0 0 */31 * *",
    "0 0 1 */12 *",
    "0 0 * * */7",
    "10-20/11 * * * *",
    "0-0/5 * * * *",
    "5/15 * * * *",
    "0 22-2 * * *",
    "0 0 * * sat-mon",
    "0 0 * * fri-sun",
    "0 0 * nov-feb *",
    "1,,2 * * * *",
    ", * * * *",
    "*/ * * * *",
    "*/-5 * * * *",
    "*/+5 * * * *",
    "+5 * * * *",
    "*-5 * * * *",
    "* * * * monday",
    "* * 0 * *",
    "* * * 13 *",
    "* * * * 8",
    "0~30 * * * *",
    "? * * * *",
    "0 0 W * *",
    "0 0 * * fri#6",
    "0 0 L L *",
    "0 24 * * *",
    "@every 5m",
    "@every",
    "@reboot",
    "@daily UTC",
    "0 0 0 0 0 0 0",
];

#[test]
fn contradictory_cron_texts_are_refused() {
    let mut report = String::new();
    for text in MEANINGLESS {
        let result = Schedule::cron(text, "UTC", OddNights::default(), at("2026-01-01T00:00:00Z"));
        let error = result.map_or_else(|e| e.to_string(), |schedule| format!("fine: {schedule}"));
        let reason = error.strip_prefix(&format!("cron text {text:?} is not valid: ")).unwrap_or(&error);
        report.push_str(&format!("{text}: {}\n", reason.split(" (use 5").next().unwrap()));
    }
    expect![[r#"
        */90 * * * *: minute "*/90": a step of 90 reaches no second value: write 0, or every = "90m" in place of cron
        */60 * * * *: minute "*/60": a step of 60 reaches no second value: write 0, or every = "60m" in place of cron
        0 */24 * * *: hour "*/24": a step of 24 reaches no second value: write 0, or every = "24h" in place of cron
        0 0 */31 * *: day of the month "*/31": a step of 31 reaches no second value: write 1, or every = "31d" in place of cron
        0 0 1 */12 *: month "*/12": a step of 12 reaches no second value: write 1
        0 0 * * */7: day of the week "*/7": a step of 7 reaches no second value: write 0
        10-20/11 * * * *: minute "10-20/11": a step of 11 reaches no second value: write 10
        0-0/5 * * * *: minute "0-0/5": a step of 5 reaches no second value: write 0
        5/15 * * * *: minute "5/15": a step needs a range: write 5-59/15, or 5
        0 22-2 * * *: hour "22-2": the range goes backwards: write 22-23,0-2
        0 0 * * sat-mon: day of the week "sat-mon": the range goes backwards: write 6,0-1
        0 0 * * fri-sun: day of the week "fri-sun": the range goes backwards: write 5-7, Sunday is 0 and 7
        0 0 * nov-feb *: month "nov-feb": the range goes backwards: write 11-12,1-2
        1,,2 * * * *: minute "1,,2": the list has an empty entry: remove the comma
        , * * * *: minute ",": the list has an empty entry: remove the comma
        */ * * * *: minute "*/": "" is no step: write a number
        */-5 * * * *: minute "*/-5": "-5" is no step: write a number
        */+5 * * * *: minute "*/+5": "+5" is no step: write a number
        +5 * * * *: minute "+5": "+5" is neither a number nor *, a range (1-5) or a step (*/5)
        *-5 * * * *: minute "*-5": "*" is neither a number nor *, a range (1-5) or a step (*/5)
        * * * * monday: day of the week "monday": "monday" is not known: write "mon"
        * * 0 * *: day of the month "0": 0 is not between 1 and 31
        * * * 13 *: month "13": 13 is not between 1 and 12
        * * * * 8: day of the week "8": 8 is not between 0 and 7
        0~30 * * * *: minute "0~30": a random time is not supported: write a number, and jitter = "10m" beside cron
        ? * * * *: minute "?": "?" is neither a number nor *, a range (1-5) or a step (*/5)
        0 0 W * *: day of the month "W": "W" is not a working day: write it like 15W
        0 0 * * fri#6: day of the week "fri#6": "fri#6" is not a day of the week in a month: write it like fri#2
        0 0 L L *: month "L": "L" is neither a number nor a name like "jan" or "feb"
        0 24 * * *: hour "24": 24 is not between 0 and 23
        @every 5m: an interval is no cron text: write every = "5m" in place of cron
        @every: an interval is no cron text: write every = "5m" in place of cron
        @reboot: a job has no start of a machine: write every = "5m" or the like in place of cron, or leave the schedule out and start the job with `tidemill jobs trigger`
        @daily UTC: "@daily" is not known: write @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly
        0 0 0 0 0 0 0: it has 7 fields, not 5, or 6 with the second first
    "#]].assert_eq(&report);
}

#[test]
fn only_zones_of_places_are_accepted() {
    let line = |name: &&str| match crate::schedule::zone::zone(name) {
        Ok(_) => format!("{name}: fine\n"),
        Err(error) => format!("{error}\n"),
    };
    let names = [
        "UTC",
        "Etc/UTC",
        "US/Pacific",
        "EST5EDT",
        "Etc/GMT+5",
        "GMT",
        "europe/BERLIN",
        "localtime",
        "Factory",
        "posixrules",
        "posix/Europe/Berlin",
        "right/UTC",
        "Etc/Unknown",
        "",
        " ",
        "UTC+2",
        "+02:00",
        "Z",
        "EST5EDT4",
        "Europe/Berln",
        "Berlin",
        "America/New York",
        "Europe/Kalkutta",
        "../etc/passwd",
        "Europe",
        "CEST",
    ];
    let report: String = names.iter().map(line).collect();
    expect![[r#"
        UTC: fine
        Etc/UTC: fine
        US/Pacific: fine
        EST5EDT: fine
        Etc/GMT+5: fine
        GMT: fine
        europe/BERLIN: fine
        time zone "localtime" is not known (use an IANA name like "Europe/Berlin")
        time zone "Factory" is not known (use an IANA name like "Europe/Berlin")
        time zone "posixrules" is not known (use an IANA name like "Europe/Berlin")
        time zone "posix/Europe/Berlin" is not known (did you mean "Europe/Berlin"?)
        time zone "right/UTC" is not known (did you mean "Etc/UTC"?)
        time zone "Etc/Unknown" is not known (use an IANA name like "Europe/Berlin")
        time zone "" is not known (use an IANA name like "Europe/Berlin")
        time zone " " is not known (use an IANA name like "Europe/Berlin")
        time zone "UTC+2" is not known (did you mean "UTC"?)
        time zone "+02:00" is not known (use an IANA name like "Europe/Berlin")
        time zone "Z" is not known (use an IANA name like "Europe/Berlin")
        time zone "EST5EDT4" is not known (did you mean "EST5EDT"?)
        time zone "Europe/Berln" is not known (did you mean "Europe/Berlin"?)
        time zone "Berlin" is not known (did you mean "Europe/Berlin"?)
        time zone "America/New York" is not known (did you mean "America/New_York"?)
        time zone "Europe/Kalkutta" is not known (use an IANA name like "Europe/Berlin")
        time zone "../etc/passwd" is not known (use an IANA name like "Europe/Berlin")
        time zone "Europe" is not known (use an IANA name like "Europe/Berlin")
        time zone "CEST" is not known (did you mean "CET"?)
    "#]]
    .assert_eq(&report);
}
