//! A business database that is unavailable or refuses: only the items that need it fail, with a specific
//! code, and they succeed when it is back.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use domain::item::State;
use domain::job::{Access, Capability, Grants, JobSpec};
use jiff::SignedDuration;
use test_support::{needs, on_both};

use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, job, manual};
use crate::support::plugins;
use crate::support::proxy::Proxy;

on_both!(
    unavailable_datasource_fails_only_its_own_items,
    datasource_that_refuses_a_row_fails_only_that_item,
    datasource_that_refuses_the_commit_leaves_no_effect,
);

const COUNT: usize = 6;
const REFUSED: &str = "w-0000002";

fn witness() -> JobSpec {
    let grants = Grants {
        datasources: BTreeMap::from([("witness".to_owned(), Access::ReadWrite)]),
        topics: ["witness".to_owned()].into(),
        capabilities: [Capability::KeyValue].into(),
        ..Grants::default()
    };
    let config = BTreeMap::from([("count".to_owned(), COUNT.to_string())]);
    JobSpec { grants, config, ..job("witness") }
}

struct Scene {
    databases: Databases,
    host: Host,
}

/// A host with one job that writes to the business database and one that does not.
async fn scene(databases: Databases, tables: &str) -> Scene {
    let folder = databases.dir.path().join("plugins");
    plugins::install(&folder, "witness", "witness");
    plugins::install(&folder, "noop", "noop");
    databases.business(tables).await;
    let host = Host::start("one", &databases, &manual(), vec![witness(), job("noop")]).await;
    Scene { databases, host }
}

const TABLE: &str =
    "CREATE TABLE witness (item_key TEXT, idempotency_key TEXT, attempt BIGINT, epoch BIGINT)";

impl Scene {
    async fn run_both(&mut self) {
        for name in ["witness", "noop"] {
            self.host.app.engine.trigger(&name.parse().unwrap(), None, "test").await.unwrap();
        }
        self.host.settle().await;
    }

    /// Advances past the backoff of a first failure.
    async fn later(&mut self) {
        self.host.advance(SignedDuration::from_secs(60)).await;
    }

    async fn resolved(&self, job: &str) -> usize {
        self.host.app.store.items().list(Some(job), Some(State::Resolved), 100).await.unwrap().len()
    }

    /// Counts rows, events and keys: the traces of committed attempts.
    async fn traces(&self) -> (i64, i64, i64) {
        let rows = self.databases.business_number("SELECT COUNT(*) FROM witness").await;
        let events = self.databases.store_number("SELECT COUNT(*) FROM event").await;
        let keys = self.databases.store_number("SELECT COUNT(*) FROM kv").await;
        (rows, events, keys)
    }

    /// Code and message of an item that waits for its next attempt.
    async fn failure(&self, key: &str) -> (String, String) {
        let item = self.host.item("witness", key).await;
        assert_eq!((item.state, item.attempts), (State::Scheduled, 1), "{item:?}");
        let error = item.error.unwrap();
        (error.code, error.message)
    }
}

/// The connection to the business database, which can be interrupted.
enum Line {
    File(PathBuf),
    Proxy(Proxy),
}

impl Line {
    async fn of(databases: &mut Databases) -> Line {
        if databases.kind == Kind::Sqlite {
            return Line::File(databases.dir.path().join("business.db"));
        }
        let (user, rest) = databases.business_url.split_once('@').unwrap();
        let (address, name) = rest.split_once('/').unwrap();
        let proxy = Proxy::to(address.to_owned()).await;
        databases.business_url = format!("{user}@{}/{name}", proxy.address);
        Line::Proxy(proxy)
    }

    fn set_up(&self, up: bool) {
        match self {
            Line::File(file) if up => fs::rename(file.with_extension("away"), file).unwrap(),
            Line::File(file) => fs::rename(file, file.with_extension("away")).unwrap(),
            Line::Proxy(proxy) => proxy.set_up(up),
        }
    }
}

async fn unavailable_datasource_fails_only_its_own_items(kind: Kind) {
    let mut databases = Databases::new(kind).await;
    let line = Line::of(&mut databases).await;
    let mut scene = scene(databases, TABLE).await;
    scene.run_both().await;
    let all = i64::try_from(COUNT).unwrap();
    assert_eq!(scene.traces().await, (all, all, all));

    line.set_up(false);
    scene.run_both().await;
    assert_eq!((scene.resolved("witness").await, scene.resolved("noop").await), (0, 1));
    for n in 1..=COUNT {
        let (code, message) = scene.failure(&format!("w-{n:07}")).await;
        assert_eq!(code, "sql-unavailable", "{message}");
        assert!(message.starts_with("statement \"insert\": datasource \"witness\": "), "{message}");
    }
    line.set_up(true);
    scene.later().await;
    assert_eq!(scene.resolved("witness").await, COUNT);
    assert_eq!(scene.traces().await, (2 * all, 2 * all, all));
    scene.host.app.stop().await;
}

async fn datasource_that_refuses_a_row_fails_only_that_item(kind: Kind) {
    let table = format!(
        "CREATE TABLE witness (item_key TEXT CHECK (item_key <> '{REFUSED}'), idempotency_key TEXT, attempt BIGINT, epoch BIGINT)"
    );
    let mut scene = scene(Databases::new(kind).await, &table).await;
    scene.run_both().await;
    assert_eq!((scene.resolved("witness").await, scene.resolved("noop").await), (COUNT - 1, 1));
    let others = i64::try_from(COUNT - 1).unwrap();
    assert_eq!(scene.traces().await, (others, others, others));
    let (code, message) = scene.failure(REFUSED).await;
    assert_eq!(code, "sql-database");
    assert!(
        message.contains("statement \"insert\": ") && message.to_lowercase().contains("check constraint"),
        "{message}"
    );

    scene.databases.business(&format!("DROP TABLE witness; {TABLE}")).await;
    scene.later().await;
    assert_eq!(scene.resolved("witness").await, COUNT);
    assert_eq!(scene.traces().await, (1, others + 1, others + 1));
    scene.host.app.stop().await;
}

async fn datasource_that_refuses_the_commit_leaves_no_effect(kind: Kind) {
    let tables = "CREATE TABLE parent (item_key TEXT PRIMARY KEY);
        INSERT INTO parent VALUES ('w-0000001'), ('w-0000003'), ('w-0000004'), ('w-0000005'), ('w-0000006');
        CREATE TABLE witness (item_key TEXT REFERENCES parent (item_key) DEFERRABLE INITIALLY DEFERRED,
            idempotency_key TEXT, attempt BIGINT, epoch BIGINT)";
    let mut scene = scene(Databases::new(kind).await, tables).await;
    scene.run_both().await;
    assert_eq!((scene.resolved("witness").await, scene.resolved("noop").await), (COUNT - 1, 1));
    let others = i64::try_from(COUNT - 1).unwrap();
    assert_eq!(scene.traces().await, (others, others, others));
    let (code, message) = scene.failure(REFUSED).await;
    assert_eq!(code, "sql-commit");
    assert!(message.starts_with("datasource \"witness\" refused the commit: "), "{message}");
    assert!(message.to_lowercase().contains("foreign key"), "{message}");

    scene.databases.business(&format!("INSERT INTO parent VALUES ('{REFUSED}')")).await;
    scene.later().await;
    assert_eq!(scene.resolved("witness").await, COUNT);
    assert_eq!(scene.traces().await, (others + 1, others + 1, others + 1));
    scene.host.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_put_back_from_a_copy_is_found() {
    needs!(Product);
    let mut scene = scene(Databases::new(Kind::Sqlite).await, TABLE).await;
    scene.run_both().await;
    let file = scene.databases.dir.path().join("business.db");
    let copy = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    scene.run_both().await;
    assert_eq!(scene.resolved("witness").await, 0);
    assert_eq!(scene.failure(REFUSED).await.0, "sql-unavailable");
    fs::write(&file, copy).unwrap();
    scene.later().await;
    assert_eq!(scene.resolved("witness").await, COUNT);
    let all = i64::try_from(COUNT).unwrap();
    assert_eq!(scene.traces().await, (2 * all, 2 * all, all));
    scene.host.app.stop().await;
}
