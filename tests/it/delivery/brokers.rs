//! Events to NATS JetStream and to Redis Streams, with real servers that are killed, hung, empty or stopped.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;
use test_support::{needs, on_both};

use super::{KEYS, add_events, begun, dead_letter, in_turn, post, postings_of, published, until_delivered};
use crate::support::broker::{Arrived, Broker, Sort};
use crate::support::database::{Databases, Kind};
use crate::support::site::{Site, eventually, text};

on_both!(
    nats_gets_each_event_once,
    redis_gets_each_event_at_least_once,
    nats_is_killed,
    redis_is_killed,
    nats_hangs,
    redis_hangs,
    nats_is_killed_under_a_backlog,
    redis_is_killed_under_a_backlog,
);

const TOPIC: &str = "LedgerPosting";

fn to(broker: &Broker, more: &str) -> String {
    let address = broker.address();
    let kind = address.split(':').next().unwrap();
    format!("topics = [\"{TOPIC}\"]\n{kind} = \"{address}\"\n{more}")
}

/// Postings by account. The first arrivals of each account's postings must be in the order of publication.
fn by_account(arrived: &[Arrived]) -> BTreeMap<String, BTreeSet<String>> {
    let (mut seen, mut postings) = (BTreeSet::new(), BTreeMap::<String, BTreeSet<String>>::new());
    let mut latest = BTreeMap::<&str, Timestamp>::new();
    for one in arrived.iter().filter(|one| seen.insert(one.fields["id"].clone())) {
        let (key, at) = (one.fields["key"].as_str(), one.fields["created_at"].parse().unwrap());
        let before = latest.insert(key, at);
        assert!(
            before.is_none_or(|before| before <= at),
            "{one:?} was published before what arrived before it"
        );
        let posting = one.payload["posting_key"].as_str().unwrap().to_owned();
        postings.entry(key.to_owned()).or_default().insert(posting);
    }
    postings
}

/// The postings of three accounts in rotation.
fn expected(count: u32) -> BTreeMap<String, BTreeSet<String>> {
    let mut expected = BTreeMap::<String, BTreeSet<String>>::new();
    for (n, account) in in_turn(count) {
        expected.entry(account.to_owned()).or_default().insert(format!("p-{n:03}"));
    }
    expected
}

fn ids(arrived: &[Arrived]) -> BTreeSet<String> {
    arrived.iter().map(|one| one.fields["id"].clone()).collect()
}

/// JetStream removes duplicates by id; Redis keeps every message.
fn no_doubles(sort: Sort, arrived: &[Arrived]) {
    if sort == Sort::Nats {
        assert_eq!(arrived.len(), ids(arrived).len());
    }
}

async fn nats_gets_each_event_once(kind: Kind) {
    arrives(Sort::Nats, kind).await;
}

async fn redis_gets_each_event_at_least_once(kind: Kind) {
    arrives(Sort::Redis, kind).await;
}

async fn arrives(sort: Sort, kind: Kind) {
    let databases = Databases::new(kind).await;
    let broker = Broker::start_new(sort).await;
    broker.make_stream(&[TOPIC]).await;
    let (_site, host) = published(&databases, &in_turn(12), &to(&broker, "")).await;
    until_delivered(&databases, 12).await;
    let arrived = broker.arrived(TOPIC).await;
    assert_eq!((arrived.len(), by_account(&arrived)), (12, expected(12)));
    for one in &arrived {
        let fields: Vec<&str> = one.fields.keys().map(String::as_str).collect();
        assert_eq!(fields, ["created_at", "id", "job", "key", "topic"]);
        let reported = (one.place.as_str(), one.fields["topic"].as_str(), one.fields["job"].as_str());
        assert_eq!(reported, (TOPIC, TOPIC, "ledger-outbox"));
        assert_eq!(one.payload["account"], one.fields["key"]);
    }
    let own: BTreeSet<String> = databases.store_texts("SELECT id FROM event").await.into_iter().collect();
    assert_eq!(ids(&arrived), own);

    // An event whose acknowledgement was lost is sent again under the same id.
    databases.store("UPDATE event SET delivered_at_ms = NULL, due_at_ms = 0").await;
    until_delivered(&databases, 12).await;
    let again = broker.arrived(TOPIC).await;
    assert_eq!(again.len(), if sort == Sort::Nats { 12 } else { 24 });
    assert_eq!(ids(&again), own);
    host.terminate().await;
}

async fn nats_is_killed(kind: Kind) {
    killed(Sort::Nats, kind).await;
}

async fn redis_is_killed(kind: Kind) {
    killed(Sort::Redis, kind).await;
}

/// Kills the broker while events are in flight, and restarts it on the same port and data.
async fn killed(sort: Sort, kind: Kind) {
    let databases = Databases::new(kind).await;
    let mut broker = Broker::start_new(sort).await;
    broker.make_stream(&[TOPIC]).await;
    let postings = in_turn(90);
    let (site, host) = begun(&databases, &postings[..60], &to(&broker, "timeout = \"1s\"\n")).await;
    until_some_delivered(&databases).await;
    broker.kill9().await;
    broker.start().await;
    until_delivered(&databases, 60).await;

    // Messages that the stopped broker received but did not process are lost with it.
    broker.signal("STOP").await;
    post(&databases, &site, &postings[60..]).await;
    until_a_try_fails(&site, "within 1s").await;
    broker.kill9().await;
    broker.start().await;
    until_delivered(&databases, 90).await;
    let arrived = broker.arrived(TOPIC).await;
    assert_eq!(by_account(&arrived), expected(90), "nothing is lost");
    no_doubles(sort, &arrived);
    host.terminate().await;
}

async fn until_some_delivered(databases: &Databases) {
    let some = || async {
        let delivered = "SELECT COUNT(*) FROM event WHERE delivered_at_ms IS NOT NULL";
        (databases.store_number(delivered).await > 0).then_some(())
    };
    eventually("the first events", some).await;
}

/// Waits for a failed try with this reason.
async fn until_a_try_fails(site: &Site, why: &str) {
    let failed = |line: &str| line.contains("event-not-taken") && line.contains(why);
    eventually("a try that fails", || async { site.log().lines().any(failed).then_some(()) }).await;
}

async fn nats_hangs(kind: Kind) {
    hangs(Sort::Nats, kind).await;
}

async fn redis_hangs(kind: Kind) {
    hangs(Sort::Redis, kind).await;
}

/// The broker accepts messages, but processes them only after the host has timed out and sent them again.
async fn hangs(sort: Sort, kind: Kind) {
    let databases = Databases::new(kind).await;
    let broker = Broker::start_new(sort).await;
    broker.make_stream(&[TOPIC]).await;
    let postings = in_turn(60);
    let (site, host) = begun(&databases, &postings[..30], &to(&broker, "timeout = \"500ms\"\n")).await;
    until_delivered(&databases, 30).await;
    broker.signal("STOP").await;
    post(&databases, &site, &postings[30..]).await;
    until_a_try_fails(&site, "within 500ms").await;
    broker.signal("CONT").await;
    until_delivered(&databases, 60).await;
    let arrived = broker.arrived(TOPIC).await;
    assert_eq!(by_account(&arrived), expected(60), "nothing is lost");
    no_doubles(sort, &arrived);
    host.terminate().await;
}

async fn nats_is_killed_under_a_backlog(kind: Kind) {
    killed_under_a_backlog(Sort::Nats, kind).await;
}

async fn redis_is_killed_under_a_backlog(kind: Kind) {
    killed_under_a_backlog(Sort::Redis, kind).await;
}

/// Each claim has many events of each key. The broker is killed while it receives them.
async fn killed_under_a_backlog(sort: Sort, kind: Kind) {
    let databases = Databases::new(kind).await;
    let mut broker = Broker::start_new(sort).await;
    broker.make_stream(&[TOPIC]).await;
    let (_site, host) = begun(&databases, &[], &to(&broker, "timeout = \"2s\"\n")).await;
    add_events(&databases, 0..1_500).await;
    until_some_delivered(&databases).await;
    broker.kill9().await;
    broker.start().await;
    add_events(&databases, 1_500..3_000).await;
    until_delivered(&databases, 3_000).await;
    let arrived = broker.arrived(TOPIC).await;
    let expected =
        (0..KEYS).map(|key| (format!("key-{key:02}"), postings_of(key, 3_000).into_iter().collect()));
    assert_eq!(by_account(&arrived), expected.collect(), "nothing is lost or out of order");
    no_doubles(sort, &arrived);
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_without_a_stream_says_what_to_do() {
    needs!(Product);
    let databases = Databases::new(Kind::Sqlite).await;
    let broker = Broker::start_new(Sort::Nats).await;
    let (site, host) = published(&databases, &[(1, "acme")], &to(&broker, "tries_max = 1\n")).await;
    let letter = dead_letter(&site).await;
    assert_eq!(
        letter["error"],
        "no JetStream stream takes the subject \"LedgerPosting\"; make one that does, like `nats stream add EVENTS \
         --subjects LedgerPosting`, and check that the server runs with JetStream"
    );
    broker.make_stream(&[TOPIC]).await;
    let said = text(&site.ask(&["outbox", "redrive"]).await.stdout);
    assert_eq!(said, "1 dead events are sent again\n");
    until_delivered(&databases, 1).await;
    assert_eq!(by_account(&broker.arrived(TOPIC).await)["acme"], BTreeSet::from(["p-001".to_owned()]));
    host.terminate().await;
}

/// NATS does not answer a publish that it refuses; only the host's log shows the server's reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_that_refuses_the_subject_is_reported() {
    needs!(Product);
    let databases = Databases::new(Kind::Sqlite).await;
    let rules = databases.dir.path().join("rules.conf");
    let text = "authorization { users = [{ user: all, password: all, permissions: { publish: { deny: LedgerPosting } } }] }\n\
        no_auth_user: all\n";
    std::fs::write(&rules, text).unwrap();
    let broker = Broker::start_with(Sort::Nats, &["-c", rules.to_str().unwrap()]).await;
    broker.make_stream(&[TOPIC]).await;
    let sink = to(&broker, "tries_max = 1\ntimeout = \"300ms\"\n");
    let (site, host) = published(&databases, &[(1, "acme")], &sink).await;
    assert_eq!(
        dead_letter(&site).await["error"],
        "no stream confirmed the event within 300ms; check that the user may publish to \"LedgerPosting\""
    );
    let log = site.log();
    assert!(log.contains("a NATS server reports an error") && log.contains("LedgerPosting"), "{log}");
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_with_another_kind_of_value_says_so() {
    needs!(Product);
    let databases = Databases::new(Kind::Sqlite).await;
    let broker = Broker::start_new(Sort::Redis).await;
    let mut redis = broker.redis_connection().await;
    redis::cmd("SET").arg(TOPIC).arg("no stream").exec_async(&mut redis).await.unwrap();
    let (site, host) = published(&databases, &[(1, "acme")], &to(&broker, "tries_max = 1\n")).await;
    let letter = dead_letter(&site).await;
    let error = letter["error"].as_str().unwrap();
    assert!(error.starts_with("not accepted by the stream \"LedgerPosting\": "), "{error}");
    assert!(error.contains("WRONGTYPE") || error.contains("wrong kind of value"), "{error}");
    redis::cmd("DEL").arg(TOPIC).exec_async(&mut redis).await.unwrap();
    site.ask(&["outbox", "redrive"]).await;
    until_delivered(&databases, 1).await;
    assert_eq!(by_account(&broker.arrived(TOPIC).await)["acme"], BTreeSet::from(["p-001".to_owned()]));
    host.terminate().await;
}

/// While the broker is down, dead letters name the address that was tried; a redrive needs no restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unavailable_broker_is_reported() {
    needs!(Product);
    for sort in [Sort::Nats, Sort::Redis] {
        let databases = Databases::new(Kind::Sqlite).await;
        let mut broker = Broker::start_new(sort).await;
        broker.make_stream(&[TOPIC]).await;
        broker.kill9().await;
        let (site, host) = published(&databases, &[(1, "acme")], &to(&broker, "tries_max = 2\n")).await;
        let letter = dead_letter(&site).await;
        let error = letter["error"].as_str().unwrap();
        assert!(error.starts_with(&format!("no connection to {}: ", broker.address())), "{error}");
        assert!(error.contains("Connection refused"), "{error}");
        assert!(error.contains("; check the address"), "{error}");
        assert_eq!(letter["tries"], json!(2));
        broker.start().await;
        site.ask(&["outbox", "redrive"]).await;
        until_delivered(&databases, 1).await;
        assert_eq!(by_account(&broker.arrived(TOPIC).await)["acme"], BTreeSet::from(["p-001".to_owned()]));
        host.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subjects_and_streams_have_names_of_their_own() {
    needs!(Product);
    let nats = Broker::start_new(Sort::Nats).await;
    nats.make_stream(&["events.>"]).await;
    for (more, place) in [
        ("subject_prefix = \"events.\"\n", "events.LedgerPosting"),
        ("subject = \"events.all\"\n", "events.all"),
    ] {
        let databases = Databases::new(Kind::Sqlite).await;
        let (_site, host) = published(&databases, &[(1, "acme")], &to(&nats, more)).await;
        until_delivered(&databases, 1).await;
        assert_eq!(nats.arrived("").await.last().unwrap().place, place);
        host.terminate().await;
    }

    // Redis trims a stream by whole blocks of entries.
    let redis = Broker::start_with(Sort::Redis, &["--stream-node-max-entries", "5"]).await;
    let databases = Databases::new(Kind::Sqlite).await;
    let sink = to(&redis, "stream = \"postings\"\nstream_length_max = 10\n");
    let (_site, host) = published(&databases, &in_turn(40), &sink).await;
    until_delivered(&databases, 40).await;
    let kept = redis.arrived("postings").await.len();
    assert!((10..=15).contains(&kept), "{kept} entries");
    host.terminate().await;
}

/// With a wrong password, the dead letter gives the reason; with the right one, the redrive succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_ask_for_a_password_over_tls() {
    needs!(Product);
    for (sort, scheme, refused) in [
        (Sort::Nats, "tls", "authorization violation"),
        (Sort::Redis, "rediss", "Password authentication failed"),
    ] {
        let databases = Databases::new(Kind::Sqlite).await;
        let mut broker = Broker::start_new(sort).await;
        broker.make_stream(&[TOPIC]).await;
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (certificate, password) =
            (databases.dir.path().join("own.pem"), databases.dir.path().join("password"));
        std::fs::write(&certificate, own.cert.pem()).unwrap();
        std::fs::write(certificate.with_extension("key"), own.signing_key.serialize_pem()).unwrap();
        std::fs::write(&password, "a-wrong-password").unwrap();
        broker.guard(Some((&certificate, "the-right-password"))).await;

        let kind = broker.address().split(':').next().unwrap().to_owned();
        let address =
            broker.address().replace(&format!("{kind}://127.0.0.1"), &format!("{scheme}://tide@localhost"));
        let sink = format!(
            "topics = [\"{TOPIC}\"]\n{kind} = \"{address}\"\npassword = \"broker\"\ntries_max = 1\n\
             [secrets]\nbroker = {{ file = {password:?} }}\n[tls]\nca_file = {certificate:?}\n"
        );
        let (site, host) = published(&databases, &[(1, "acme")], &sink).await;
        let letter = dead_letter(&site).await;
        let error = letter["error"].as_str().unwrap();
        assert!(error.contains(&address) && error.contains(refused) && error.contains("password"), "{error}");
        host.terminate().await;

        std::fs::write(&password, "the-right-password\n").unwrap();
        let host = site.serve().await;
        site.ask(&["outbox", "redrive"]).await;
        until_delivered(&databases, 1).await;
        host.terminate().await;
        let log = site.log();
        assert!(!log.contains("a-wrong-password") && !log.contains("the-right-password"), "{log}");
        broker.guard(None).await;
        assert_eq!(by_account(&broker.arrived(TOPIC).await)["acme"], BTreeSet::from(["p-001".to_owned()]));
    }
}
