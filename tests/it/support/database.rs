//! A store and a business database for one test, on either kind of database.

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;
pub use test_support::Kind;
use test_support::{Database, TableLock, execute};

/// The items that hosts hold, for the FROM of a query: entries of claims with the present epoch of their item.
pub const RUNNING: &str = "(SELECT item.item_key, item.epoch, claimed.host_id, claimed.claimed_at_ms
    FROM claimed_item AS claimed JOIN item ON item.id = claimed.item_id AND item.epoch = claimed.epoch) AS running";

pub struct Databases {
    pub kind: Kind,
    pub dir: TempDir,
    pub store_url: String,
    pub business_url: String,
    _on_server: Vec<Database>,
}

impl Databases {
    pub async fn new(kind: Kind) -> Databases {
        let dir = tempfile::tempdir().unwrap();
        let mut on_server = Vec::new();
        let [store_url, business_url] = match kind {
            Kind::Sqlite => ["store.db", "business.db"]
                .map(|name| format!("sqlite://{}", dir.path().join(name).display())),
            Kind::Postgres => {
                on_server = vec![Database::fresh(kind).await, Database::fresh(kind).await];
                [on_server[0].url.clone(), on_server[1].url.clone()]
            }
        };
        Databases { kind, dir, store_url, business_url, _on_server: on_server }
    }

    /// Both in the only database of a server.
    pub fn on_server(url: &str) -> Databases {
        Databases {
            kind: Kind::Postgres,
            dir: tempfile::tempdir().unwrap(),
            store_url: url.to_owned(),
            business_url: url.to_owned(),
            _on_server: Vec::new(),
        }
    }

    /// Runs statements on the business database, as its owner would.
    pub async fn business(&self, sql: &str) {
        execute(&self.business_url, sql).await;
    }

    /// Runs statements on the store, from outside the host.
    pub async fn store(&self, sql: &str) {
        let tables = if self.kind == Kind::Postgres { "SET search_path = tidemill, public; " } else { "" };
        execute(&self.store_url, &format!("{tables}{sql}")).await;
    }

    /// One number from the business database.
    pub async fn business_number(&self, sql: &str) -> i64 {
        number(&self.business_url, sql).await
    }

    /// One number from the host's own tables.
    pub async fn store_number(&self, sql: &str) -> i64 {
        number(&self.store_url, sql).await
    }

    /// One column of text from the business database.
    pub async fn business_texts(&self, sql: &str) -> Vec<String> {
        texts(&self.business_url, sql).await
    }

    /// One column of text from the host's own tables.
    pub async fn store_texts(&self, sql: &str) -> Vec<String> {
        texts(&self.store_url, sql).await
    }

    /// A literal of bytes that are given as hexadecimal digits.
    pub fn bytes(&self, digits: &str) -> String {
        match self.kind {
            Kind::Sqlite => format!("X'{digits}'"),
            Kind::Postgres => format!("CAST('\\x{digits}' AS BYTEA)"),
        }
    }

    /// Prevents all others from writing to a table of the business database (on SQLite: to any).
    pub async fn hold_business(&self, table: &str) -> TableLock {
        TableLock::take(&self.business_url, table).await
    }

    /// Prevents all others from writing to a table of the store (on SQLite: to any).
    pub async fn hold_store(&self, table: &str) -> TableLock {
        TableLock::take(&self.store_url, table).await
    }
}

pub async fn number(url: &str, sql: &str) -> i64 {
    let sql = AssertSqlSafe(sql.to_owned());
    if url.starts_with("sqlite") {
        let mut db = SqliteConnection::connect(url).await.unwrap();
        let number = sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap();
        db.close().await.unwrap();
        number
    } else {
        let mut db = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql("SET search_path = tidemill, public").execute(&mut db).await.unwrap();
        let number = sqlx::query_scalar(sql).fetch_one(&mut db).await.unwrap();
        db.close().await.unwrap();
        number
    }
}

async fn texts(url: &str, sql: &str) -> Vec<String> {
    let sql = AssertSqlSafe(sql.to_owned());
    if url.starts_with("sqlite") {
        let mut db = SqliteConnection::connect(url).await.unwrap();
        let texts = sqlx::query_scalar(sql).fetch_all(&mut db).await.unwrap();
        db.close().await.unwrap();
        texts
    } else {
        let mut db = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql("SET search_path = tidemill, public").execute(&mut db).await.unwrap();
        let texts = sqlx::query_scalar(sql).fetch_all(&mut db).await.unwrap();
        db.close().await.unwrap();
        texts
    }
}
