//! Fixtures: a new database for each case, and helpers with short names.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use domain::effect::{Effect, Event};
use domain::failure::Failure;
use domain::flow::Flow;
use domain::id::{HostId, Incarnation, RunId};
use domain::item::Claimed;
use domain::job::{Grants, JobSpec};
use domain::limits::Limits;
use domain::outcome::{Outcome, decide};
use domain::retry::RetryPolicy;
use domain::run::{ClaimedRun, Discovered};
use domain::runner::{FoundItem, Page, Usage};
use domain::schedule::Schedule;
use jiff::{SignedDuration, Timestamp};
use test_support::{Database, Fixture, Kind, execute, try_execute};
use uuid::Uuid;

use crate::attempts::commit::{AttemptEnd, Committed, Effects};
use crate::config::DatasourceConfig;
use crate::db::{Most, Row};
use crate::hosts::{HostLocation, HostStart, Taking};
use crate::items::Lease;
use crate::{Store, StoreConfig};

pub fn event(topic: &str, key: &str, payload: &str) -> Effect {
    Effect::Event(Event::new(topic, key, payload))
}

/// Duration of a lease in these tests.
pub const LEASE_SECONDS: i64 = 15;
/// The business database of every case.
pub const SHOP: &str = "shop";

/// A store on a new database.
#[derive(Clone)]
pub struct T {
    pub kind: Kind,
    pub store: Arc<Store>,
    pub url: String,
    pub shop_url: String,
}

impl Fixture for T {
    async fn run<F: Future<Output = ()>>(kind: Kind, case: fn(T) -> F) {
        let database = Database::fresh(kind).await;
        let url = database.url.clone();
        // On Postgres, the shop's tables are in the same database; the host's tables have a schema of their own.
        let shop_url = url.replace("test.db", "shop.db");
        execute(&shop_url, "CREATE TABLE shop_exists (id INTEGER)").await;
        let store = Arc::new(Store::open(&config(&url, &shop_url)).await.unwrap());
        case(T { kind, store: store.clone(), url, shop_url }).await;
        store.close().await;
    }
}

pub fn config(url: &str, shop_url: &str) -> StoreConfig {
    let shop = DatasourceConfig { url: shop_url.to_owned(), password: None };
    StoreConfig {
        url: url.to_owned(),
        password: None,
        notify: true,
        datasources: BTreeMap::from([(SHOP.to_owned(), shop)]),
    }
}

/// The start time of all cases, plus `seconds`.
pub fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(seconds)
}

pub fn host(number: u128) -> HostId {
    HostId(Uuid::from_u128(number))
}

/// The incarnation of a host that is started only once.
pub fn incarnation(number: u128) -> Incarnation {
    Incarnation(Uuid::from_u128(number))
}

/// A start of a host whose data folder is named like the host.
pub fn start(number: u128, name: &str, incarnation: Incarnation) -> HostStart {
    HostStart {
        id: host(number),
        incarnation,
        name: name.to_owned(),
        place: HostLocation::Folder(name.to_owned()),
    }
}

pub fn lease(number: u128, now: i64) -> Lease {
    Lease {
        host: host(number),
        incarnation: incarnation(number),
        now: at(now),
        until: at(now + LEASE_SECONDS),
    }
}

pub fn job() -> JobSpec {
    JobSpec {
        name: "wallet".parse().unwrap(),
        plugin: "wallet-keygen".parse().unwrap(),
        schedule: Schedule::every(SignedDuration::from_mins(1)).unwrap(),
        ticks: Default::default(),
        config: BTreeMap::new(),
        grants: Grants::default(),
        limits: Limits::DEFAULT,
        retry: RetryPolicy { jitter: 0.0, ..RetryPolicy::DEFAULT },
        flow: Flow::default(),
        resolve_when_absent: false,
        failed_alert: Default::default(),
        on_store_loss: Default::default(),
        isolation: Default::default(),
    }
}

/// A page of items with the payload `{}`.
pub fn page(keys: &[&str], next: Option<&str>) -> Page {
    let found = |key: &&str| FoundItem { key: (*key).to_owned(), payload: "{}".to_owned() };
    Page { items: keys.iter().map(found).collect(), next: next.map(str::to_owned) }
}

pub fn resolved() -> Result<Outcome, Failure> {
    Ok(Outcome::Resolved { note: Some("done".to_owned()) })
}

pub fn awaiting() -> Result<Outcome, Failure> {
    Ok(Outcome::Awaiting { note: None })
}

pub fn failed() -> Result<Outcome, Failure> {
    Err(Failure::transient("flaky", "try later"))
}

pub fn permanent() -> Result<Outcome, Failure> {
    Err(Failure::Permanent(domain::failure::ErrorInfo::new("no-user", "the user is gone")))
}

/// The end of an attempt by the rules of [`job`], without effects.
pub fn end(item: &Claimed, result: &Result<Outcome, Failure>, now: i64) -> AttemptEnd {
    AttemptEnd {
        item: item.clone(),
        ending: decide(result, item, &job().retry, at(now)),
        effects: Effects::default(),
        host: host(1),
        failed_alert: Default::default(),
        digest: None,
        usage: Usage { wall_us: 1_500, cpu_us: 700, memory_bytes_max: 65_536, host_calls: 3, host_bytes: 99 },
        log: "a line".to_owned(),
        ended_at: at(now),
    }
}

/// Running items, as a table.
pub const RUNNING: &str = "(SELECT item.*, claimed.host_id FROM claimed_item AS claimed
    JOIN item ON item.id = claimed.item_id AND item.epoch = claimed.epoch) AS running";

impl T {
    pub async fn host_started(&self, number: u128, name: &str, now: i64) {
        let start = start(number, name, incarnation(number));
        assert_eq!(self.store.hosts().take(&start, None, at(now)).await.unwrap(), Taking::Taken);
    }

    /// A manually started run whose discovery host 1 holds.
    pub async fn run(&self, job: &JobSpec, now: i64) -> ClaimedRun {
        self.store.jobs().trigger(&job.name, None, "ada", at(now)).await.unwrap();
        self.store.runs().claim(&job.name, lease(1, now)).await.unwrap().unwrap()
    }

    pub async fn put(&self, run: &ClaimedRun, job: &JobSpec, page: &Page, now: i64) -> Discovered {
        let (committed, sum) = self.store.runs().put_page(run, job, page, None, at(now)).await.unwrap();
        assert_eq!(committed, Committed::Applied);
        sum
    }

    /// Puts an empty last page.
    pub async fn complete(&self, run: &ClaimedRun, job: &JobSpec, now: i64) {
        self.put(run, job, &page(&[], None), now).await;
    }

    /// Starts a run whose discovery has one page with these keys.
    pub async fn discover(&self, job: &JobSpec, keys: &[&str], now: i64) -> (RunId, Discovered) {
        let run = self.run(job, now).await;
        let sum = self.put(&run, job, &page(keys, None), now).await;
        (run.id, sum)
    }

    /// Claims due items of [`job`] for host 1.
    pub async fn claim(&self, limit: u32, now: i64) -> Vec<Claimed> {
        self.store.items().claim(&job(), lease(1, now), limit).await.unwrap()
    }

    /// Claims the only due item.
    pub async fn claim_one(&self, now: i64) -> Claimed {
        let mut items = self.claim(2, now).await;
        assert_eq!(items.len(), 1, "one item should be due");
        items.remove(0)
    }

    pub async fn end(&self, item: &Claimed, result: Result<Outcome, Failure>, now: i64) -> Committed {
        self.store.attempts().end(Arc::new(end(item, &result, now))).await.unwrap()
    }

    /// Discovers one item, claims it and ends its attempt.
    pub async fn attempt(&self, key: &str, result: Result<Outcome, Failure>, now: i64) {
        self.discover(&job(), &[key], now).await;
        let item = self.claim_one(now).await;
        assert_eq!(self.end(&item, result, now).await, Committed::Applied);
    }

    /// One line per item, by key, with the most useful fields.
    pub async fn items(&self) -> String {
        let mut items = self.store.items().list(None, None, 1_000).await.unwrap();
        items.sort_by(|a, b| a.key.cmp(&b.key));
        let line = |item: &crate::items::ItemView| {
            let due = item.due_at.duration_since(at(0)).as_secs();
            let why = item.error.as_ref().map(|e| format!(" {}: {}", e.code, e.message)).unwrap_or_default();
            format!("{} {} attempts={} due={due}{why}\n", item.key, item.shown, item.attempts)
        };
        items.iter().map(line).collect()
    }

    pub async fn trail(&self) -> String {
        let trail = self.store.audit().list(100).await.unwrap();
        let line = |entry: &crate::audit::AuditView| {
            format!("{} {} {}: {}\n", entry.actor, entry.action, entry.subject, entry.detail)
        };
        trail.iter().rev().map(line).collect()
    }

    pub async fn rows(&self, sql: &str) -> Vec<Row> {
        let mut tx = self.store.db.begin_read().await.unwrap();
        tx.fetch_declared(sql, &[], Most::ALL).await.unwrap()
    }

    pub async fn number(&self, sql: &str) -> i64 {
        self.rows(sql).await[0].int("n").unwrap()
    }

    pub async fn run_view(&self, run: RunId) -> crate::runs::RunView {
        self.store.runs().get(run).await.unwrap().unwrap()
    }

    /// All stored rows, to check that nothing changed.
    pub async fn everything(&self) -> Vec<String> {
        let mut all = Vec::new();
        for table in [
            "job",
            "tick",
            "run",
            "item",
            "due",
            "claimed_item",
            "parked",
            "item_count",
            "attempt",
            "batch",
            "event",
            "kv",
            "named_lock",
            "rate",
            "audit",
        ] {
            let sql = format!("SELECT * FROM {table} ORDER BY 1, 2");
            all.extend(self.rows(&sql).await.iter().map(|row| format!("{table} {row:?}")));
        }
        all
    }

    pub async fn running(&self) -> i64 {
        self.number(&format!("SELECT COUNT(*) AS n FROM {RUNNING}")).await
    }

    pub async fn due(&self) -> i64 {
        self.number("SELECT COUNT(*) AS n FROM due").await
    }

    /// Runs SQL in the store's own database, bypassing the store.
    pub async fn tamper(&self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = match self.kind {
            Kind::Sqlite => sql.to_owned(),
            Kind::Postgres => format!("SET search_path TO tidemill; {sql}"),
        };
        try_execute(&self.url, &sql).await
    }
}
