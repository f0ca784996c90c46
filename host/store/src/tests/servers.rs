//! Several servers at one address: a host's reaction when the answering server is not, or no longer, the
//! right one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::scope::{Scope as _, ScopeError};
use test_support::{Database, Kind, Postgres, Relay, execute, needs, postgres_url, try_execute};

use super::sql::{attempt, granted, read, write};
use super::support::{T, at, config, job};
use crate::opening::sql as opening_sql;
use crate::{Store, StoreError};

/// Longest wait for work to continue. docs/runbook.md promises 10 s, on a machine without other load.
const PATIENCE: Duration = Duration::from_secs(60);

struct Pair {
    old: Postgres,
    new: Postgres,
    relay: Relay,
    t: T,
}

impl Pair {
    /// A store on `old`, which `new` replicates.
    async fn start() -> Pair {
        let old = Postgres::start().await;
        execute(&old.url(), "CREATE TABLE goods (id INTEGER PRIMARY KEY)").await;
        let relay = Relay::to(old.port());
        let store = Arc::new(Store::open(&config(&relay.url(), &relay.url())).await.unwrap());
        let new = old.standby().await;
        let t = T { kind: Kind::Postgres, store, url: relay.url(), shop_url: relay.url() };
        t.store.jobs().put(&job(), at(0)).await.unwrap();
        let pair = Pair { old, new, relay, t };
        pair.use_all_connections().await;
        pair
    }

    /// Opens connections that will all have to be replaced.
    async fn use_all_connections(&self) {
        let mut open = Vec::new();
        for _ in 0..10 {
            open.push(self.t.store.db.begin().await.unwrap());
        }
    }

    async fn promote(&self) {
        execute(&self.new.url(), "SELECT pg_promote()").await;
    }

    /// Waits until the last write is also on the other server.
    async fn catch_up(&self) {
        let job = "SELECT 1 / COUNT(*) FROM tidemill.job";
        while try_execute(&self.new.url(), job).await.is_err() {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the store can be written to and a job can use its business database.
    async fn resumes(&self) {
        let start = Instant::now();
        let mut seconds = 1;
        loop {
            seconds += 1;
            let written = self.t.store.jobs().put(&job(), at(seconds)).await;
            let reported = written.as_ref().err().map(ToString::to_string);
            assert!(start.elapsed() < PATIENCE, "{reported:?}");
            if written.is_ok() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let (_, scope) = attempt(&self.t, granted(domain::job::Access::ReadWrite)).await;
        let add = write("INSERT INTO goods VALUES (1)");
        let mut written = scope.sql_execute(&add, vec![]).await;
        while written.is_err() {
            assert!(start.elapsed() < PATIENCE, "{written:?}");
            let (_, scope) = attempt(&self.t, granted(domain::job::Access::ReadWrite)).await;
            written = scope.sql_execute(&add, vec![]).await;
        }
        // The write went to the new server.
        let rows = "SELECT 1 / COUNT(*) FROM tidemill.item";
        execute(&self.new.url(), rows).await;
    }

    /// The host gets notifications from other hosts on the new server.
    async fn hears(&self) {
        let start = Instant::now();
        let woken = self.t.store.feed().woken();
        tokio::pin!(woken);
        let mut rounds = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                () = &mut woken => return,
                _ = rounds.tick() => {}
            }
            assert!(start.elapsed() < PATIENCE, "a wake-up on the new server is not heard");
            execute(&self.new.url(), "SELECT pg_notify('tidemill_work', 'other')").await;
        }
    }
}

/// The old server continues and refuses writes; it never closes a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_moves_away_from_a_read_only_server() {
    needs!(PostgresPrograms);
    let pair = Pair::start().await;
    pair.catch_up().await;
    let (_, scope) = attempt(&pair.t, granted(domain::job::Access::ReadWrite)).await;
    scope.sql_query(&read("SELECT id FROM goods"), vec![]).await.unwrap();
    scope.abort().await;
    execute(&pair.old.url(), "ALTER SYSTEM SET default_transaction_read_only = on").await;
    execute(&pair.old.url(), "SELECT pg_reload_conf()").await;
    pair.promote().await;
    pair.relay.lead_to(pair.new.port());
    pair.resumes().await;
    pair.hears().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_moves_away_from_a_server_that_shuts_down() {
    needs!(PostgresPrograms);
    let pair = Pair::start().await;
    pair.catch_up().await;
    pair.promote().await;
    pair.relay.lead_to(pair.new.port());
    pair.old.stop_fast();
    pair.resumes().await;
    pair.hears().await;
}

/// Nothing reports that the server is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_moves_away_from_a_silent_server() {
    needs!(PostgresPrograms);
    let pair = Pair::start().await;
    pair.catch_up().await;
    pair.promote().await;
    let mut waits = pair.t.store.db.begin().await.unwrap();
    pair.relay.freeze_and_lead_to(pair.new.port());
    let waits = tokio::spawn(async move { waits.fetch(opening_sql::VERSION, &[]).await.map(|_| ()) });
    pair.resumes().await;
    pair.hears().await;
    // The waiting statement is then given up, too.
    let waits = tokio::time::timeout(PATIENCE, waits).await.expect("it is given up").unwrap();
    assert!(matches!(waits, Err(StoreError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_refused_at_a_start_and_its_promotion_is_not() {
    needs!(PostgresPrograms);
    let old = Postgres::start().await;
    Store::open(&config(&old.url(), &old.url())).await.unwrap().close().await;
    let new = old.standby().await;
    let error = Store::open(&config(&new.url(), &new.url())).await.err().expect("a standby was opened");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("the server is read-only (it is a standby)"), "{error}");
    // A datasource that is only read may use a standby.
    let t = T {
        kind: Kind::Postgres,
        store: Arc::new(Store::open(&config(&old.url(), &new.url())).await.unwrap()),
        url: old.url(),
        shop_url: new.url(),
    };
    let (_, scope) = attempt(&t, granted(domain::job::Access::Read)).await;
    scope.sql_query(&read("SELECT 1"), vec![]).await.unwrap();
    let refused = scope.sql_query(&read("CREATE TABLE nothing (id INTEGER)"), vec![]).await.unwrap_err();
    assert!(matches!(refused, ScopeError::Database(_)), "{refused}");
    t.store.close().await;
    execute(&new.url(), "SELECT pg_promote()").await;
    Store::open(&config(&new.url(), &new.url())).await.unwrap().close().await;
}

/// A database, and its URL for a role with this many connections: limits do not apply to superusers.
async fn limited(name: &str, limit: u32) -> (Database, String) {
    let database = Database::fresh(Kind::Postgres).await;
    let role = format!("{name}_{}", std::process::id());
    let make = format!(
        "CREATE ROLE {role} LOGIN CONNECTION LIMIT {limit}; GRANT CREATE ON DATABASE {} TO {role}",
        database.name()
    );
    execute(&database.url, &make).await;
    let url = database.url.replace("postgres@", &format!("{role}@"));
    (database, url)
}

async fn drop_role(database: Database, url: &str) {
    drop(database);
    let role = url.split("//").nth(1).and_then(|rest| rest.split('@').next()).unwrap();
    execute(&postgres_url(), &format!("DROP ROLE {role}")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_connections_at_the_start_are_reported() {
    needs!(Postgres);
    let (database, url) = limited("crowded_start", 0).await;
    let error = Store::open(&config(&url, &database.url)).await.err().expect("it was opened");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("too many connections: "), "{error}");
    assert!(error.to_string().contains("raise max_connections"), "{error}");
    drop_role(database, &url).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_connections_during_work_are_reported() {
    needs!(Postgres);
    let (database, url) = limited("crowded", 4).await;
    let store = Store::open(&config(&url, &url)).await.unwrap();
    let mut open = Vec::new();
    let error = loop {
        match store.db.begin().await {
            Ok(tx) => open.push(tx),
            Err(error) => break StoreError::from(error),
        }
    };
    assert!(open.len() <= 4);
    assert!(error.to_string().contains("too many connections: "), "{error}");
    assert!(store.connection_trouble().is_some_and(|why| why.contains("raise max_connections")));
    // A datasource reports the same error to its jobs.
    let t = T {
        kind: Kind::Postgres,
        store: Arc::new(Store::open(&config(&database.url, &url)).await.unwrap()),
        url: database.url.clone(),
        shop_url: url.clone(),
    };
    let (_, scope) = attempt(&t, granted(domain::job::Access::Read)).await;
    let error = scope.sql_query(&read("SELECT 1"), vec![]).await.unwrap_err();
    assert!(matches!(error, ScopeError::Unavailable(_)), "{error}");
    assert!(error.to_string().contains("too many connections: "), "{error}");
    drop(open);
    store.close().await;
    t.store.close().await;
    drop_role(database, &url).await;
}
