//! The wallet job's rules W1 to W10, with the real component. The test itself acts as the MPC service.

use demo::world::{KeygenStatus, World};
use domain::clock::Manual;
use domain::item::{ManualDecision, State};
use domain::job::JobSpec;
use jiff::SignedDuration;
use store::events::outbox::EventView;
use store::items::DecisionRequest;
use test_support::{needs, on_both};

use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, manual};
use crate::support::jobs::demo_job;
use crate::support::plugins;

const JOB: &str = "wallet-keygen-retry";

on_both!(
    w1_runs_every_minute,
    w2_finds_incomplete_wallets_in_the_database_100_a_scan,
    w3_triggers_at_most_10_a_run,
    w4_backs_off_1_2_4_to_60_minutes_and_never_gives_up,
    w5_keeps_the_retry_record_and_forgets_it_after_7_days,
    w6_decides_by_the_status,
    w7_manual_trigger_does_not_trigger_twice,
    w8_status_and_event_belong_together,
    w9_an_error_with_one_user_does_not_stop_the_others,
    w9_a_user_that_is_gone_is_skipped,
    w10_the_run_says_how_many,
);

struct Scene {
    databases: Databases,
    world: World,
    clock: Manual,
    host: Host,
}

/// A host with users 1 to `users`, all without any address.
async fn scene(kind: Kind, users: i64) -> Scene {
    let databases = Databases::new(kind).await;
    let clock = manual();
    let world = World::create(&databases.business_url).await.unwrap();
    add_users(&databases, 1, users).await;
    plugins::install(&databases.dir.path().join("plugins"), JOB, JOB);
    let host = Host::start("one", &databases, &clock, vec![demo_job(JOB)]).await;
    Scene { databases, world, clock, host }
}

async fn add_users(databases: &Databases, from: i64, to: i64) {
    let rows: Vec<String> = (from..=to).map(|id| format!("({id}, {})", 7_000 + id)).collect();
    let insert = format!("INSERT INTO user_account (user_id, account_sequence) VALUES {}", rows.join(", "));
    databases.business(&insert).await;
}

impl Scene {
    /// Takes and returns the requests that were published since the last call.
    async fn requests(&self) -> Vec<serde_json::Value> {
        let store = &self.host.app.store;
        let events = store.outbox().pending(Some("MpcKeygenRequested"), 1_000).await.unwrap();
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        store.outbox().taken(&ids, "test", self.clock.now()).await.unwrap();
        let payload = |event: &EventView| serde_json::from_str(&event.payload).unwrap();
        events.iter().map(payload).collect()
    }

    async fn requested_users(&self) -> Vec<i64> {
        let mut users: Vec<i64> =
            self.requests().await.iter().map(|request| request["user_id"].as_i64().unwrap()).collect();
        users.sort_unstable();
        users
    }

    /// Acts as the MPC service, which sets the status of a user's generation.
    async fn set(&self, user: i64, status: &str, age_seconds: Option<i64>) {
        let now = self.clock.now().as_millisecond();
        let status = KeygenStatus {
            status: status.to_owned(),
            session_id: None,
            request_key: None,
            updated_at_ms: age_seconds.map(|age| now - age * 1_000),
        };
        self.world.set_status(user, &status).await.unwrap();
    }
}

async fn w1_runs_every_minute(kind: Kind) {
    let mut scene = scene(kind, 1).await;
    for _ in 0..5 {
        scene.host.minute().await;
    }
    let store = &scene.host.app.store;
    let ticks = store.jobs().ticks(JOB, 10).await.unwrap();
    let fates: Vec<_> = ticks.iter().map(|tick| (tick.at.to_string(), tick.fate.as_str())).collect();
    let at = |minute| format!("2026-03-02T10:0{minute}:00Z");
    assert_eq!(fates, [5, 4, 3, 2, 1].map(|minute| (at(minute), "ran")));
    assert_eq!(store.runs().list(Some(JOB), 10).await.unwrap().len(), 5);
}

async fn w2_finds_incomplete_wallets_in_the_database_100_a_scan(kind: Kind) {
    let mut scene = scene(kind, 250).await;
    for user in 1..=20 {
        scene.world.complete_wallet(user).await.unwrap();
    }
    scene
        .databases
        .business("INSERT INTO wallet_address (user_id, chain, address) VALUES (21, 'KAVA', 'kava1x')")
        .await;
    scene.host.minute().await;
    let store = &scene.host.app.store;
    let run = &store.runs().list(Some(JOB), 1).await.unwrap()[0];
    assert_eq!(
        run.discovered.found, 230,
        "three scans of at most 100 find all, one with a part of its addresses too"
    );
    assert_eq!(scene.requested_users().await, (21..=30).collect::<Vec<_>>());
}

async fn w3_triggers_at_most_10_a_run(kind: Kind) {
    let mut scene = scene(kind, 35).await;
    let mut asked = Vec::new();
    for minute in 1..=30 {
        scene.host.minute().await;
        let users = scene.requested_users().await;
        assert!(users.len() <= 10, "minute {minute}: {users:?}");
        for user in &users {
            scene.set(*user, "failed", Some(0)).await;
        }
        asked.extend(users);
    }
    assert!(asked.len() > 100, "all were asked for again and again: {}", asked.len());
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), 35);
}

async fn w4_backs_off_1_2_4_to_60_minutes_and_never_gives_up(kind: Kind) {
    let mut scene = scene(kind, 1).await;
    let mut asked_at = Vec::new();
    for minute in 1..=250 {
        scene.host.minute().await;
        if !scene.requests().await.is_empty() {
            asked_at.push(minute);
            scene.set(1, "failed", Some(0)).await;
        }
    }
    let gaps: Vec<i64> = asked_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(scene.host.item(JOB, "1").await.state, State::Awaiting);
}

async fn w5_keeps_the_retry_record_and_forgets_it_after_7_days(kind: Kind) {
    let mut scene = scene(kind, 1).await;
    let began = scene.clock.now() + SignedDuration::from_mins(1);
    for _ in 0..4 {
        scene.host.minute().await;
        scene.set(1, "failed", Some(0)).await;
    }
    let record = scene.host.item(JOB, "1").await;
    assert_eq!(record.key, "1");
    assert_eq!(record.attempts, 3);
    assert_eq!(record.first_attempt_at, Some(began));
    assert_eq!(record.last_attempt_at, Some(began + SignedDuration::from_mins(3)));
    assert_eq!(record.due_at, began + SignedDuration::from_mins(7));

    complete(&mut scene).await;
    scene.host.advance(SignedDuration::from_hours(24)).await;
    lose_wallet(&mut scene).await;
    assert_eq!(scene.host.item(JOB, "1").await.attempts, 4, "within 7 days the count goes on");

    complete(&mut scene).await;
    scene.host.advance(SignedDuration::from_hours(24 * 8)).await;
    lose_wallet(&mut scene).await;
    let record = scene.host.item(JOB, "1").await;
    assert_eq!(record.attempts, 1, "after 7 days the count restarts");
    assert_eq!(record.due_at, scene.clock.now() + SignedDuration::from_mins(1));
}

/// Completes the wallet, and waits for a run after that.
async fn complete(scene: &mut Scene) {
    scene.world.complete_wallet(1).await.unwrap();
    scene.host.minute().await;
    assert_eq!(scene.host.item(JOB, "1").await.state, State::Resolved);
}

/// Makes the wallet incomplete again, without a status, and waits for a run after that.
async fn lose_wallet(scene: &mut Scene) {
    scene.databases.business("DELETE FROM wallet_address; DELETE FROM keygen_status").await;
    scene.host.minute().await;
}

/// A status and its age in seconds, if there is one.
type Stands = Option<(&'static str, Option<i64>)>;

async fn w6_decides_by_the_status(kind: Kind) {
    let mut scene = scene(kind, 14).await;
    // The age is evaluated at the next minute.
    let cases: [(i64, Stands, bool); 14] = [
        (1, None, true),
        (2, Some(("failed", Some(0))), true),
        (3, Some(("completed", Some(0))), true),
        (4, Some(("{\"oops", Some(0))), true),
        (5, Some(("pending", None)), true),
        (6, Some(("pending", Some(-30))), false),
        (7, Some(("generating", Some(-30))), false),
        (8, Some(("deriving", Some(-30))), false),
        (9, Some(("pending", Some(1))), true),
        (10, Some(("generating", Some(1))), true),
        (11, Some(("deriving", Some(1))), true),
        (12, Some(("failed", Some(25 * 3_600))), true),
        (13, Some(("generating", Some(25 * 3_600))), true),
        (14, Some(("", Some(0))), true),
    ];
    for (user, status, _) in cases {
        if let Some((word, age)) = status {
            scene.set(user, word, age).await;
        }
    }
    let expected: Vec<i64> = cases.iter().filter(|case| case.2).map(|case| case.0).collect();
    let mut asked = Vec::new();
    // The cap leaves some users for later minutes.
    for _ in 0..3 {
        for (user, status, _) in cases.iter().filter(|case| !case.2) {
            scene.set(*user, status.unwrap().0, Some(-30)).await;
        }
        scene.host.minute().await;
        for user in scene.requested_users().await {
            scene.world.complete_wallet(user).await.unwrap();
            asked.push(user);
        }
    }
    asked.sort_unstable();
    assert_eq!(asked, expected);
    let attempts = scene.host.app.store.items().attempts(JOB, "3", 10).await.unwrap();
    let first = &attempts.last().unwrap().log;
    assert!(first.contains("inconsistent"), "{first:?}");
}

async fn w7_manual_trigger_does_not_trigger_twice(kind: Kind) {
    let mut scene = scene(kind, 5).await;
    scene.host.minute().await;
    assert_eq!(scene.requested_users().await, [1, 2, 3, 4, 5]);
    let app = &scene.host.app;
    for user in 1..=5 {
        let key = user.to_string();
        app.store
            .items()
            .decide(JOB, &key, DecisionRequest::new(ManualDecision::Retry, None, "api"), scene.clock.now())
            .await
            .unwrap();
    }
    app.engine.trigger(&JOB.parse().unwrap(), None, "api").await.unwrap();
    scene.host.settle().await;
    assert_eq!(
        scene.requested_users().await,
        Vec::<i64>::new(),
        "pending and young: no user is asked for again"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w1_w7_f6_two_hosts_on_one_postgres_never_trigger_a_user_twice() {
    needs!(Product, Postgres);
    let mut scene = scene(Kind::Postgres, 30).await;
    let jobs: Vec<JobSpec> = vec![demo_job(JOB)];
    let mut other = Host::start("two", &scene.databases, &scene.clock, jobs).await;
    let mut asked = Vec::new();
    let mut minutes = 0;
    while asked.len() < 30 && minutes < 20 {
        minutes += 1;
        scene.clock.advance(SignedDuration::from_mins(1));
        scene.host.settle().await;
        other.settle().await;
        for user in scene.requested_users().await {
            scene.world.complete_wallet(user).await.unwrap();
            asked.push(user);
        }
    }
    asked.sort_unstable();
    assert_eq!(asked, (1..=30).collect::<Vec<_>>());
    let store = &scene.host.app.store;
    let ran = store.jobs().ticks(JOB, 100).await.unwrap();
    assert_eq!(ran.len(), minutes, "one tick a minute over both hosts");
    let runs = ran.iter().filter(|tick| tick.fate == "ran").count();
    assert_eq!(store.runs().list(Some(JOB), 100).await.unwrap().len(), runs);
    assert_eq!(store.hosts().list(10).await.unwrap().len(), 2);
}

async fn w8_status_and_event_belong_together(kind: Kind) {
    let mut scene = scene(kind, 2).await;
    // The event of user 2 cannot be stored, so its status must not be pending either.
    refuse_status_of(&scene, 2).await;
    scene.host.minute().await;
    let requests = scene.requests().await;
    assert_eq!(requests.len(), 1);
    let session = scene.world.status(1).await.unwrap().unwrap().session_id.unwrap();
    let expected = serde_json::json!({
        "session_id": session, "user_id": 1, "account_sequence": 7001, "username": "user_7001",
        "threshold": 2, "total_parties": 3, "require_delegate": true,
    });
    assert_eq!(requests[0], expected);
    assert_eq!(scene.world.status(1).await.unwrap().unwrap().status, "pending");
    assert!(scene.world.status(2).await.unwrap().is_none());
}

/// From now on the business database refuses to store a status of this user.
async fn refuse_status_of(scene: &Scene, user: i64) {
    let sql = match scene.databases.kind {
        Kind::Sqlite => format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON keygen_status WHEN NEW.user_id = {user}
            BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
        ),
        Kind::Postgres => format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'refused by the test'; END $$;
            CREATE TRIGGER refuse BEFORE INSERT ON keygen_status FOR EACH ROW
            WHEN (NEW.user_id = {user}) EXECUTE FUNCTION refuse()"
        ),
    };
    scene.databases.business(&sql).await;
}

async fn w9_an_error_with_one_user_does_not_stop_the_others(kind: Kind) {
    let mut scene = scene(kind, 5).await;
    refuse_status_of(&scene, 3).await;
    scene.host.minute().await;
    assert_eq!(scene.requested_users().await, [1, 2, 4, 5]);
    let item = scene.host.item(JOB, "3").await;
    assert_eq!((item.shown, item.attempts), ("retrying", 1));
    let error = item.error.unwrap();
    assert_eq!(error.code, "sql-database");
    assert!(error.message.contains("refused by the test"), "{}", error.message);
}

async fn w9_a_user_that_is_gone_is_skipped(kind: Kind) {
    let mut scene = scene(kind, 2).await;
    scene.host.minute().await;
    scene.databases.business("DELETE FROM user_account WHERE user_id = 1").await;
    let store = scene.host.app.store.clone();
    store
        .items()
        .decide(JOB, "1", DecisionRequest::new(ManualDecision::Retry, None, "test"), scene.clock.now())
        .await
        .unwrap();
    scene.host.settle().await;
    let item = scene.host.item(JOB, "1").await;
    assert_eq!(item.state, State::Resolved);
    assert_eq!(item.note.as_deref(), Some("user no longer exists, skipped"));
    let log = store.items().attempts(JOB, "1", 1).await.unwrap()[0].log.clone();
    assert!(log.contains("user 1 no longer exists"), "{log:?}");
}

async fn w10_the_run_says_how_many(kind: Kind) {
    let mut scene = scene(kind, 14).await;
    scene.host.minute().await;
    let run = &scene.host.app.store.runs().list(Some(JOB), 1).await.unwrap()[0];
    assert_eq!(run.summary(), "found 14, attempted 10 of 10, skipped 4 (4 over the cap)");
    assert_eq!((run.state.as_str(), run.failed), ("finished", 0));
}
