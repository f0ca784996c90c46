//! `schedule = { … }` of a job: each mistake with its whole message, and each key.

use domain::schedule::tick::{CatchUp, Overlap, TickPolicy};
use expect_test::expect;

use super::config::{check, load};
use super::world::{World, get, post};

#[test]
fn schedules() {
    let job = |schedule: &str| format!("[jobs.wallet]\nplugin = \"a\"\nschedule = {schedule}\n");
    check(
        &job("{ cron = \"61 * * * *\" }"),
        expect![[
            r#"tidemill.toml:3: jobs.wallet.schedule.cron: cron text "61 * * * *" is not valid: minute "61": 61 is not between 0 and 59; use 5 or 6 fields like "*/5 * * * *", or @daily"#
        ]],
    );
    check(
        &job("{ cron = \"* * *\" }"),
        expect![[
            r#"tidemill.toml:3: jobs.wallet.schedule.cron: cron text "* * *" is not valid: it has 3 fields, not 5, or 6 with the second first; use 5 or 6 fields like "*/5 * * * *", or @daily"#
        ]],
    );
    check(
        &job("{ cron = \"0 0 31 2 *\" }"),
        expect![[
            r#"tidemill.toml:3: jobs.wallet.schedule.cron: cron text "0 0 31 2 *" never fires; use a day that its month has"#
        ]],
    );
    check(
        &job("{ cron = \"@daily\", tz = \"Europe/Atlantis\" }"),
        expect![[
            r#"tidemill.toml:3: jobs.wallet.schedule.tz: time zone "Europe/Atlantis" is not known; use an IANA name like "Europe/Berlin""#
        ]],
    );
}

#[test]
fn intervals_and_instants() {
    let job = |schedule: &str| format!("[jobs.wallet]\nplugin = \"a\"\nschedule = {schedule}\n");
    check(
        &job("{ every = \"soon\" }"),
        expect![[
            r#"tidemill.toml:3: jobs.wallet.schedule.every: "soon" is not a duration: failed to parse input in the "friendly" duration format: expected duration to start with a unit value (a decimal integer) after an optional sign, but no integer was found; use a duration like "500ms", "30s", "1h 30m" or "7d""#
        ]],
    );
    check(
        &job("{ every = \"10ms\" }"),
        expect![[
            r#"tidemill.toml:3: jobs.wallet.schedule.every: an interval of 10ms is too short; use at least "1s""#
        ]],
    );
    check(
        &job("{ every = \"1mo\" }"),
        expect![[
            r#"tidemill.toml:3: jobs.wallet.schedule.every: "1mo" is not a duration: months and years have no fixed length; use a duration like "500ms", "30s", "1h 30m" or "7d""#
        ]],
    );
    check(
        &job("{ every = \"1m\", tz = \"UTC\" }"),
        expect![
            "tidemill.toml:3: jobs.wallet.schedule.tz: an interval has no time zone; remove tz, or use cron"
        ],
    );
    check(
        &job("{ every = \"1m\", cron = \"@daily\" }"),
        expect!["tidemill.toml:3: jobs.wallet.schedule: cron and every are both given; keep one of them"],
    );
    check(
        &job("{}"),
        expect![
            "tidemill.toml:3: jobs.wallet.schedule: no time is given; give cron, every or at; leave schedule out for a job that only people start"
        ],
    );
    check(
        &job("\"* * * * *\""),
        expect![
            "tidemill.toml:3: jobs.wallet.schedule: expected a table, found text; use a section [jobs.wallet.schedule] or { key = value }"
        ],
    );
    check(
        &job("{ at = [\"noon\"] }"),
        expect![[
            r#"tidemill.toml:3: jobs.wallet.schedule.at: "noon" is no instant; write it like "2026-12-24T18:00:00+01:00", or like "2026-12-24 18:00" with a tz"#
        ]],
    );
    check(
        &job("{ at = [] }"),
        expect![
            "tidemill.toml:3: jobs.wallet.schedule.at: it names no instant, or more than 1000; name 1 to 1000 instants"
        ],
    );
    check(
        &job("{ every = \"1m\", overlap = \"queue\", catch_up_max = 3, jitter = \"-1s\" }"),
        expect![[r#"
        tidemill.toml:3: jobs.wallet.schedule.catch_up_max: only catch_up = "all" has a bound; remove it, or set catch_up
        tidemill.toml:3: jobs.wallet.schedule.jitter: "-1s" is not a duration: it is negative; use a duration like "500ms", "30s", "1h 30m" or "7d"
        tidemill.toml:3: jobs.wallet.schedule.overlap: "queue" is not known; use "skip" or "buffer-one" or "cancel-other" or "allow""#]],
    );
}

/// Each key of a schedule, read and shown.
#[test]
fn policies() {
    let job = |schedule: &str| {
        let toml = format!("[jobs.wallet]\nplugin = \"a\"\nschedule = {schedule}\n");
        load(toml.as_bytes(), &[]).unwrap().jobs[0].clone()
    };
    let full = job(
        "{ cron = \"30 2 * * *\", tz = \"Europe/Berlin\", dst_gap = \"skip\", dst_fold = \"twice\", overlap = \"buffer-one\", \
        catch_up = \"all\", catch_up_max = 5, catch_up_window = \"1h\", start_deadline = \"10m\", jitter = \"30s\" }",
    );
    assert_eq!(full.schedule.to_string(), "cron 30 2 * * * (Europe/Berlin, dst_gap skip, dst_fold twice)");
    let minutes = jiff::SignedDuration::from_mins;
    let expected = TickPolicy {
        overlap: Overlap::BufferOne,
        catch_up: CatchUp::All(5),
        catch_up_window: Some(minutes(60)),
        start_deadline: Some(minutes(10)),
        jitter: jiff::SignedDuration::from_secs(30),
    };
    assert_eq!(full.ticks, expected);
    assert_eq!(job("{ every = \"1m\" }").ticks, TickPolicy::default());
    let at = job("{ at = [\"2026-12-24 18:00\", \"2026-12-24T16:30:00Z\"], tz = \"Europe/Berlin\" }");
    assert_eq!(at.schedule.to_string(), "at 2026-12-24T16:30:00Z, 2026-12-24T17:00:00Z");
}

/// Pauses, results of due instants, and previews over the API.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_api() {
    let world = World::new().await;
    let paused = world.json(post("/api/v1/jobs/wallet/pause", "{}")).await;
    expect![[r#"
        {
          "changed": true,
          "paused": true
        }"#]]
    .assert_eq(&paused);
    let jobs = world.json(get("/api/v1/jobs")).await;
    assert!(jobs.contains("\"by\": \"local\""), "{jobs}");
    let page = world.ask(get("/page/overview")).await.body;
    assert!(page.contains("paused by local, 0 s ago"), "{page}");
    let again = world.json(post("/api/v1/jobs/wallet/pause", "{}")).await;
    assert!(again.contains("\"changed\": false"), "{again}");
    for (path, state) in [("jobs/wallet/resume", "false"), ("pause", "true"), ("resume", "false")] {
        let answer = world.json(post(&format!("/api/v1/{path}"), "{}")).await;
        assert!(answer.contains(&format!("\"paused\": {state}")), "{path}: {answer}");
    }
    let ticks = world.json(get("/api/v1/jobs/wallet/ticks")).await;
    expect![[r#"
        {
          "ticks": []
        }"#]]
    .assert_eq(&ticks);
    let preview = "/api/v1/schedule/preview?cron=30%202%20*%20*%20*&tz=Europe/Berlin&count=2";
    expect![[r#"
        {
          "instants": [
            "2026-11-21T01:30:00Z",
            "2026-11-22T01:30:00Z"
          ],
          "schedule": "cron 30 2 * * * (Europe/Berlin)"
        }"#]]
    .assert_eq(&world.json(get(preview)).await);
    let wrong = [
        "/api/v1/schedule/preview?cron=0%200%2031%202%20*",
        "/api/v1/schedule/preview?cron=*%20*%20*%20*%20*&tz=Nowhere",
        "/api/v1/schedule/preview?cron=*%20*%20*%20*%20*&dst_gap=before",
        "/api/v1/schedule/preview?tz=UTC",
        "/api/v1/jobs/nobody/ticks",
    ];
    let mut reported = String::new();
    for path in wrong {
        let answer = world.ask(get(path)).await;
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        reported.push_str(&format!(
            "{} {}: {}\n",
            answer.status.as_u16(),
            problem["code"],
            problem["detail"]
        ));
    }
    expect![[r#"
        400 "bad-query": "cron text \"0 0 31 2 *\" never fires; use a day that its month has"
        400 "bad-query": "time zone \"Nowhere\" is not known; use an IANA name like \"Europe/Berlin\""
        400 "bad-query": "dst_gap: use after or skip"
        400 "bad-query": "missing field `cron`"
        404 "not-found": "there is no job \"nobody\""
    "#]]
    .assert_eq(&reported);
    let large = format!("{{\"params\": \"{}\"}}", "x".repeat(300 << 10));
    let answer = world.ask(post("/api/v1/jobs/wallet", &large)).await;
    assert!(answer.body.contains("params: at most 262144 bytes"), "{}", answer.body);
    assert_eq!(world.ask(post("/api/v1/jobs/wallet", "{\"params\": {\"only\": 7}}")).await.status, 201);
}

/// An edit elsewhere in the file leaves a job unchanged; another rule for one night changes it.
#[test]
fn a_job_that_is_read_again_is_the_same() {
    let job = |rule: &str| {
        let schedule = format!("{{ cron = \"30 2 * * *\", tz = \"Europe/Berlin\", dst_gap = \"{rule}\" }}");
        let toml = format!("[jobs.wallet]\nplugin = \"a\"\nschedule = {schedule}\nretry.factor = 1.7\n");
        load(toml.as_bytes(), &[]).unwrap().jobs
    };
    assert_eq!(job("skip"), job("skip"));
    assert_ne!(job("skip"), job("after"));
}

/// A meaningless duration is refused, in each key of a job that has one.
#[test]
fn meaningless_durations_are_refused() {
    for (keys, wrong) in [
        ("schedule = { every = \"1m\", start_deadline = \"0s\" }", "schedule.start_deadline"),
        ("schedule = { every = \"1m\", start_deadline = \"10ms\" }", "schedule.start_deadline"),
        ("schedule = { every = \"1m\", catch_up_window = \"0s\" }", "schedule.catch_up_window"),
        ("schedule = { every = \"1m\", jitter = \"10000d\" }", "schedule.jitter"),
        ("schedule = { every = \"10000d\" }", "schedule.every"),
        ("schedule = { every = \"99999999d\" }", "schedule.every"),
        ("retry.forget_after = \"0s\"", "retry.forget_after"),
        ("retry.by_code = { busy = \"throttle 0s\" }", "retry.by_code.busy"),
        ("retry.base = \"0s\"", "retry.base"),
        ("limits.wall_time = \"0s\"", "limits.wall_time"),
    ] {
        let toml = format!("[jobs.wallet]\nplugin = \"a\"\n{keys}\n");
        let error = load(toml.as_bytes(), &[]).unwrap_err().to_string();
        assert!(error.contains(&format!("jobs.wallet.{wrong}: ")), "{keys}: {error}");
    }
}

#[test]
fn limits_of_clients_have_bounds() {
    for wrong in [
        "connections = 100",
        "connections = 100000",
        "connections_per_peer = 300",
        "requests = 0",
        "head_time = \"0s\"",
        "stall_time = \"1h\"",
        "bodies = \"1MiB\"",
        "answers = \"1000GiB\"",
        "streams = 1",
    ] {
        let error = load(format!("[server.limits]\n{wrong}\n").as_bytes(), &[]).unwrap_err().to_string();
        let key = wrong.split(' ').next().unwrap();
        assert!(error.contains(&format!("server.limits.{key}: ")), "{wrong}: {error}");
    }
    let many = load(b"[server.limits]\nrequests = 500\n", &[]).unwrap().http;
    assert!(many.connections > many.kept() && many.connections_per_peer <= many.connections);
}
