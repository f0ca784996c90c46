//! Stock replenishment, rules S3 to S7: the real component, HTTP services in every mood, virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use demo::{Mood, Services};
use domain::alert::{FailedItems, Severity};
use domain::id::RunId;
use domain::item::State;
use domain::job::JobSpec;
use jiff::SignedDuration;
use store::items::ItemView;
use store::runs::results::RunResult;
use test_support::on_both;

use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, manual};
use crate::support::jobs::demo_job_with;
use crate::support::plugins;

on_both!(
    s3_s5_every_low_campaign_is_refilled_three_at_a_time,
    s4_a_returned_failure_and_a_thrown_one_count_the_same,
    s4_lost_answer_creates_nothing_twice,
    s6_the_result_counts_and_lists_the_failures,
    s7_one_alert_a_run_and_the_next_run_tries_again,
    services_that_misbehave_fail_their_campaign_alone,
);

const JOB: &str = "stock-replenish";

struct Scene {
    databases: Databases,
    services: Services,
    host: Host,
}

/// A host whose business has campaigns 1 to `low` without stock, of three users, and three that need none.
async fn scene(kind: Kind, low: i64, change: impl FnOnce(&mut JobSpec)) -> Scene {
    let databases = Databases::new(kind).await;
    demo::World::create(&databases.business_url).await.unwrap();
    let campaign = |id: i64, stock: i64, active: i64| {
        format!(
            "INSERT INTO campaign (campaign_id, user_id, name, stock, stock_min, active)
            VALUES ({id}, {}, 'Campaign {id}', {stock}, 20, {active});",
            id % 3 + 1
        )
    };
    let mut sql: String = (1..=low).map(|id| campaign(id, id % 20, 1)).collect();
    sql += &(campaign(101, 20, 1) + &campaign(102, 500, 1) + &campaign(103, 0, 0));
    databases.business(&sql).await;
    let services = Services::start(None).await.unwrap();
    let mut job = demo_job_with(JOB, services.address);
    change(&mut job);
    plugins::install(&databases.dir.path().join("plugins"), JOB, JOB);
    let host = Host::start("one", &databases, &manual(), vec![job]).await;
    Scene { databases, services, host }
}

impl Scene {
    async fn trigger(&self) -> RunId {
        let (store, now) = (&self.host.app.store, self.host.app.clock.now());
        store.jobs().trigger(&JOB.parse().unwrap(), None, "ada", now).await.unwrap()
    }

    async fn run(&mut self) -> RunId {
        let run = self.trigger().await;
        self.host.settle().await;
        run
    }

    async fn seconds(&mut self, seconds: i64) {
        self.host.advance(SignedDuration::from_secs(seconds)).await;
    }

    /// Completes a run and its retries.
    async fn run_to_the_end(&mut self) -> RunId {
        let run = self.run().await;
        self.seconds(60).await;
        self.seconds(60).await;
        run
    }

    async fn result(&self, run: RunId) -> RunResult {
        self.host.app.store.runs().result(run).await.unwrap().unwrap()
    }

    async fn item(&self, campaign: i64) -> ItemView {
        self.host.item(JOB, &campaign.to_string()).await
    }

    async fn stock(&self, campaign: i64) -> i64 {
        self.databases
            .business_number(&format!("SELECT stock FROM campaign WHERE campaign_id = {campaign}"))
            .await
    }

    fn made(&self) -> BTreeMap<i64, usize> {
        let made = self.services.all.stock.made();
        made.iter().fold(BTreeMap::new(), |mut times, made| {
            *times.entry(made.campaign_id).or_default() += 1;
            times
        })
    }
}

/// While the producer delays its answers, three requests are open and none is done; later all are done.
async fn s3_s5_every_low_campaign_is_refilled_three_at_a_time(kind: Kind) {
    let mut scene = scene(kind, 8, |_| ()).await;
    let stock = &scene.services.all.stock;
    stock.door.set(Mood::Hangs);
    stock.set_mood_of(5, Mood::Fails);
    let run = scene.trigger().await;
    let services = scene.services.all.clone();
    scene.host.until("three requests", |_| services.stock.door.inside() == 3).await;
    let result = scene.result(run).await;
    assert_eq!((result.current(), result.total, result.last.clone()), (0, 8, None));

    services.stock.door.set(Mood::Well);
    scene.host.settle().await;
    let result = scene.result(run).await;
    // The first attempt of each has ended; the failed one will be retried.
    assert_eq!((result.current(), result.total, result.success, result.failed), (8, 8, 7, 0));
    assert!(result.last.is_some_and(|last| last.success && last.key != "5"));
    assert_eq!(services.stock.door.inside_max(), 3);
    for campaign in [1, 2, 3, 4, 6, 7, 8] {
        assert_eq!(scene.stock(campaign).await, 40, "campaign {campaign}");
    }
    assert_eq!([scene.stock(101).await, scene.stock(102).await, scene.stock(103).await], [20, 500, 0]);

    // The failed one ends with its third try; the result shows this failure as well.
    scene.seconds(60).await;
    scene.seconds(60).await;
    let result = scene.result(run).await;
    assert_eq!((result.current(), result.success, result.failed), (8, 7, 1));
    assert!(result.last.is_some_and(|last| !last.success && last.key == "5"));
}

async fn s4_a_returned_failure_and_a_thrown_one_count_the_same(kind: Kind) {
    let mut scene = scene(kind, 3, |_| ()).await;
    let stock = &scene.services.all.stock;
    stock.set_mood_of(1, Mood::Fails);
    stock.set_mood_of(2, Mood::Refuses);
    scene.run().await;
    let codes = [(1, "replenish-failed"), (2, "http-status-503")];
    for tries in 1..=3 {
        for (campaign, code) in codes {
            let item = scene.item(campaign).await;
            assert_eq!((item.attempts, item.error.unwrap().code.as_str()), (tries, code));
            let expected = if tries < 3 { State::Scheduled } else { State::ManualRequired };
            assert_eq!(item.state, expected, "campaign {campaign} after try {tries}");
        }
        // The retry comes after a full minute, not earlier.
        scene.seconds(59).await;
        assert_eq!(scene.item(1).await.attempts, tries);
        scene.seconds(1).await;
    }
    assert_eq!(scene.item(3).await.state, State::Resolved);
}

/// The producer makes the batch and its answer is lost: the next try gets the same batch.
async fn s4_lost_answer_creates_nothing_twice(kind: Kind) {
    let mut scene = scene(kind, 1, |_| ()).await;
    scene.services.all.stock.set_mood_of(1, Mood::Closes);
    scene.run().await;
    assert_eq!(scene.item(1).await.error.unwrap().code, "http-answer");
    assert_eq!((scene.made(), scene.stock(1).await), (BTreeMap::from([(1, 1)]), 1));
    scene.services.all.stock.set_mood_of(1, Mood::Well);
    scene.seconds(60).await;
    assert_eq!((scene.made(), scene.stock(1).await), (BTreeMap::from([(1, 1)]), 40));
    // Sold again, the campaign has a new need.
    scene.databases.business("UPDATE campaign SET stock = 3 WHERE campaign_id = 1;").await;
    scene.run().await;
    assert_eq!((scene.made(), scene.stock(1).await), (BTreeMap::from([(1, 2)]), 40));
}

async fn s6_the_result_counts_and_lists_the_failures(kind: Kind) {
    let mut scene = scene(kind, 5, |_| ()).await;
    scene.services.all.stock.set_mood_of(2, Mood::Fails);
    scene.services.all.stock.set_mood_of(4, Mood::Refuses);
    let run = scene.run_to_the_end().await;
    let result = scene.result(run).await;
    assert_eq!((result.total, result.success, result.failed), (5, 3, 2));
    let mut failures = scene.host.app.store.runs().failures(run).await.unwrap();
    failures.sort_by(|a, b| a.key.cmp(&b.key));
    let listed: Vec<_> =
        failures.iter().map(|item| (item.key.as_str(), item.attempts, item.code.as_str())).collect();
    assert_eq!(listed, [("2", 3, "replenish-failed"), ("4", 3, "http-status-503")]);
    assert_eq!(failures[0].payload, r#"{"name":"Campaign 2","user_id":3}"#);
    assert_eq!(failures[0].message, "no material for campaign 2");
}

/// A warning up to 10 failures, an error above; the message names up to 10, the result lists all; a later run
/// is another alert.
async fn s7_one_alert_a_run_and_the_next_run_tries_again(kind: Kind) {
    let mut scene = scene(kind, 12, |_| ()).await;
    for campaign in 1..=10 {
        scene.services.all.stock.set_mood_of(campaign, Mood::Fails);
    }
    let first = scene.run_to_the_end().await;
    let open = async |scene: &Scene| scene.host.app.store.alerts().list(true, 50).await.unwrap();
    let alerts = open(&scene).await;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let alert = &alerts[0].alert;
    assert_eq!((alert.kind.as_str(), alert.key.clone()), ("STOCK_REPLENISH_FAILED", first.to_string()));
    assert_eq!(alert.severity, Severity::Warning);

    // The two good campaigns are sold out as well, and now the producer cannot make anything.
    scene.databases.business("UPDATE campaign SET stock = 0 WHERE campaign_id <= 12;").await;
    scene.services.all.stock.door.set(Mood::Fails);
    let second = scene.run_to_the_end().await;
    let alerts = open(&scene).await;
    let alert = &alerts.iter().find(|alert| alert.alert.key == second.to_string()).unwrap().alert;
    assert_eq!((alerts.len(), alert.severity), (2, Severity::Error));
    assert!(alert.message.starts_with("12 of stock-replenish failed for good: "), "{}", alert.message);
    assert!(alert.message.ends_with("; and 2 more"), "{}", alert.message);
    assert_eq!(alert.message.matches("no material for campaign").count(), 10);
    let all = FailedItems::parse(&alert.metadata);
    assert_eq!((all.count, all.items.len()), (12, 12));
    let eleven = all.items.iter().find(|item| item.key == "11").unwrap();
    assert_eq!((eleven.attempts, eleven.payload.as_str()), (3, r#"{"name":"Campaign 11","user_id":3}"#));

    scene.services.all.stock.door.set(Mood::Well);
    for campaign in 1..=10 {
        scene.services.all.stock.set_mood_of(campaign, Mood::Well);
    }
    scene.run().await;
    for campaign in 1..=12 {
        assert_eq!(scene.stock(campaign).await, 40, "campaign {campaign}");
    }
    assert_eq!(open(&scene).await.len(), 2, "no new one");
}

/// Invalid answers, no answers, a campaign that vanishes, a proxy without exits: each is an error of that
/// item, with a clear message.
async fn services_that_misbehave_fail_their_campaign_alone(kind: Kind) {
    let short = |job: &mut JobSpec| job.limits.http_time = Duration::from_secs(3);
    let mut scene = scene(kind, 4, short).await;
    let stock = &scene.services.all.stock;
    stock.set_mood_of(1, Mood::Rubbish);
    scene.run().await;
    let error = scene.item(1).await.error.unwrap();
    assert_eq!(error.code, "http-answer");
    assert!(error.message.contains("this is not what you asked for"), "{}", error.message);
    for campaign in [2, 3, 4] {
        assert_eq!(scene.item(campaign).await.state, State::Resolved);
    }

    scene.services.all.proxy.door.set(Mood::Hangs);
    scene.seconds(60).await;
    assert_eq!(scene.item(1).await.error.unwrap().code, "http-timeout");
    scene.services.all.proxy.door.set(Mood::Fails);
    scene.seconds(60).await;
    let error = scene.item(1).await.error.unwrap();
    assert_eq!(
        (error.code.as_str(), error.message.as_str()),
        ("http-status-502", "the service answered 502: no exit is free")
    );

    // The campaign vanishes while it waits for the next run: no work is left, and no request is sent.
    scene.databases.business("UPDATE campaign SET stock = 0 WHERE campaign_id = 2;").await;
    let run = scene.run().await;
    assert_eq!(scene.item(2).await.error.unwrap().code, "http-status-502");
    scene.databases.business("DELETE FROM campaign WHERE campaign_id = 2;").await;
    scene.services.all.proxy.door.set(Mood::Well);
    scene.seconds(60).await;
    assert_eq!(scene.item(2).await.note.as_deref(), Some("the campaign is gone"));
    assert_eq!(scene.result(run).await.success, 1);
}
