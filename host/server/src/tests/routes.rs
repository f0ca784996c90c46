//! Every route that changes data: carried out once per key, recorded under the name of the credential, and
//! without payloads in the audit trail.

use axum::body::Body;
use axum::http::Request;
use domain::alert::{Alert, Severity};
use domain::effect::{Effect, Event};
use domain::id::{Digest, EventId, PluginName};
use domain::plugin::{Asks, PluginVersion, VersionState};
use domain::release::{Approval, ReleaseRules};
use serde_json::{Value, json};
use store::attempts::commit::Effects;
use store::audit::KINDS;
use store::plugins::KeptFile;
use store::plugins::releases::NewVersion;

use super::world::{World, get, post};
use crate::api::hash_of_token;

/// Part of every payload. It must not occur in the audit trail.
const PAYLOAD: &str = "a payload that may have to be forgotten";
const TOKEN: &str = "token-of-ada";
/// Routes that take a component, which a test without a compiler does not have: see the
/// tests of real processes.
const WITH_COMPONENT: [&str; 2] = ["/api/v1/plugins/{plugin}", "/api/v1/plugins/{plugin}/replay"];

fn plugin() -> PluginName {
    "wallet-keygen".parse().unwrap()
}

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

/// Two versions of a plugin: one is stable, and the other waits for approval.
async fn release_versions(world: &World) {
    let (store, now) = (&world.state.store, world.state.clock.now());
    let rules = ReleaseRules { approval: Approval::Wider, canary: None };
    for (n, topics) in [(1, vec![]), (2, vec!["more".to_owned()])] {
        let version = PluginVersion {
            plugin: plugin(),
            digest: digest(n),
            size_bytes: 3,
            version: format!("{n}.0"),
            summary: String::new(),
            asks: Some(Asks { topics, ..Asks::default() }),
            state: VersionState::Active,
            seen_at: now,
        };
        let file = KeptFile { bytes: vec![n], signature: None };
        store.plugins().keep_file(&plugin(), digest(n), file, now).await.unwrap();
        let host = world.state.engine.host_id();
        let found = NewVersion { version: &version, wants: &[], returns: true, at_start: false, host };
        store.plugins().decide(&found, &rules, now).await.unwrap();
    }
}

/// An attempt that publishes an event and raises an alert. Returns their ids.
async fn effects(world: &World) -> (String, String) {
    let (store, now) = (&world.state.store, world.state.clock.now());
    world.discover(&["effects"]).await;
    let event = Event { id: EventId::new(now), ..Event::new("orders", "o", PAYLOAD) };
    let alert = Alert {
        kind: "LATE".to_owned(),
        key: "k".to_owned(),
        severity: Severity::Error,
        message: PAYLOAD.to_owned(),
        metadata: json!({ "of": PAYLOAD }).to_string(),
    };
    let event_id = event.id.to_string();
    let requested = vec![Effect::Event(event), Effect::Alert(alert)];
    world.resolve_one(Effects { requested, ..Effects::default() }).await;
    (event_id, store.alerts().list(true, 1).await.unwrap()[0].id.to_string())
}

async fn requests(world: &World) -> Vec<(String, String)> {
    let (event, alert) = effects(world).await;
    world.discover(&["k"]).await;
    release_versions(world).await;
    let version = |n: u8| json!({ "digest": digest(n).to_string() }).to_string();
    let item = json!({ "operation": "a", "payload": { "of": PAYLOAD } });
    let batch = json!({ "id": "b", "job": "wallet", "created_by": "eve", "items": [item] }).to_string();
    let edit = json!({ "set": { "concurrency": 2, "config.password": PAYLOAD } });
    let none = || "{}".to_owned();
    let plain = vec![
        ("/jobs/wallet", json!({ "params": { "of": PAYLOAD } }).to_string()),
        ("/jobs/wallet/items", json!({ "key": "a", "payload": PAYLOAD }).to_string()),
        ("/jobs/wallet/edits", edit.to_string()),
        ("/jobs/wallet/pause", none()),
        ("/jobs/wallet/resume", none()),
        ("/pause", String::new()),
        ("/resume", String::new()),
        ("/batches", batch),
        ("/batches/b/process", none()),
        ("/items/wallet/k/manual", json!({ "notes": "why" }).to_string()),
        ("/items/wallet/k/retry", none()),
        ("/items/wallet/k/resolve", none()),
        ("/items/wallet/a/abandon", none()),
        ("/locks/l/take", json!({ "ttl": "1m" }).to_string()),
        ("/locks/l/renew", json!({ "token": 1, "ttl": "2m" }).to_string()),
        ("/locks/l/release", none()),
        ("/recover", none()),
        ("/outbox/redrive", none()),
        ("/plugins/wallet-keygen/approve", version(2)),
        ("/plugins/wallet-keygen/promote", version(1)),
        ("/plugins/wallet-keygen/pin", version(2)),
        ("/plugins/wallet-keygen/rollback", none()),
        ("/plugins/wallet-keygen/unpin", none()),
        (
            "/plugins/wallet-keygen/quarantine",
            json!({ "digest": digest(2).to_string(), "reason": "why" }).to_string(),
        ),
        ("/plugins/wallet-keygen/retire", none()),
    ];
    let mut all: Vec<_> = plain.into_iter().map(|(path, body)| (path.to_owned(), body)).collect();
    all.push(("/outbox/taken".to_owned(), json!({ "ids": [event] }).to_string()));
    all.push((format!("/alerts/{alert}/acknowledge"), none()));
    all.into_iter().map(|(path, body)| (format!("/api/v1{path}"), body)).collect()
}

fn keyed(key: &str, path: &str, body: &str) -> Request<Body> {
    let mut request = post(path, body);
    let headers = request.headers_mut();
    headers.insert("idempotency-key", key.parse().unwrap());
    headers.insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    request
}

async fn entries(world: &World) -> usize {
    world.state.store.audit().list(500).await.unwrap().len()
}

/// Sends each request twice with the same key.
async fn twice(world: &World, requests: &[(String, String)]) {
    for (at, (path, body)) in requests.iter().enumerate() {
        let key = format!("key-{at}");
        let before = entries(world).await;
        let first = world.ask(keyed(&key, path, body)).await;
        assert!(first.status.is_success(), "{path}: {} {}", first.status, first.body);
        let after = entries(world).await;
        assert!(after > before, "{path} leaves no record");
        let again = world.ask(keyed(&key, path, body)).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body), "{path}");
        assert_eq!(again.headers.get("location"), first.headers.get("location"), "{path}");
        assert_eq!(again.headers["idempotency-replayed"], "true", "{path}");
        assert_eq!(entries(world).await, after, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_post_is_carried_out_once_and_recorded_under_its_token() {
    let world = World::new().await;
    let requests = requests(&world).await;
    let before = entries(&world).await;
    world.state.store.tokens().add("ada", &hash_of_token(TOKEN), world.state.clock.now()).await.unwrap();
    twice(&world, &requests).await;
    for route in routes() {
        let named = requests.iter().any(|(path, _)| is_of(&route, path));
        assert!(named || WITH_COMPONENT.contains(&route.as_str()), "{route} is in no test");
    }
    let trail = world.ask(get("/api/v1/audit?limit=500")).await;
    let trail: Value = serde_json::from_str(&trail.body).unwrap();
    let trail = trail["audit"].as_array().unwrap();
    let new = &trail[..trail.len() - before];
    for entry in new {
        let action = entry["action"].as_str().unwrap();
        assert!(KINDS.contains(&action), "{action}");
        let expected = if action == "token_added" { "local" } else { "ada" };
        assert_eq!(entry["actor"], expected, "{entry}");
        assert!(!entry.to_string().contains(PAYLOAD), "{entry}");
    }
    let detail = |action: &str| {
        let found = new.iter().find(|entry| entry["action"] == action);
        found.map(|entry| entry["detail"].as_str().unwrap().to_owned()).unwrap_or_default()
    };
    for action in ["triggered", "item_added", "batch_added", "job_edited"] {
        assert!(detail(action).contains(", sha256 "), "{action}: {}", detail(action));
    }
    assert!(detail("batch_added").ends_with(", created by eve"), "{}", detail("batch_added"));
    assert!(detail("job_edited").contains("concurrency = 2"), "{}", detail("job_edited"));
    assert!(detail("events_taken").starts_with("1 events: "), "{}", detail("events_taken"));
}

/// The paths of all routes with POST or PUT, parsed from the source files.
fn routes() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/api");
    let mut routes = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        for route in text.split(".route(").skip(1) {
            let (path, handlers) = route.split_once(',').unwrap();
            let handlers = handlers.split("\n}").next().unwrap();
            if handlers.contains("post(") || handlers.contains("put(") {
                routes.push(path.trim().trim_matches('"').to_owned());
            }
        }
    }
    assert!(routes.len() > 20, "{routes:?}");
    routes
}

/// Whether a path matches a route, whose variable parts are in braces.
fn is_of(route: &str, path: &str) -> bool {
    let (route, path): (Vec<&str>, Vec<&str>) = (route.split('/').collect(), path.split('/').collect());
    route.len() == path.len()
        && route.iter().zip(&path).all(|(one, other)| one.starts_with('{') || one == other)
}

/// The documentation lists exactly the existing kinds.
#[test]
fn every_kind_of_record_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/audit.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, table) = text.split_once("| kind |").unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.map(|row| row.split(" |").next().unwrap());
    let mut kinds: Vec<&str> =
        cells.flat_map(|cell| cell.split(", ")).map(|kind| kind.trim_matches('`')).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, KINDS);
}
