//! A store and a business database for one test, on either kind of database.

use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// The Postgres server in which tests may create databases.
pub fn postgres_url() -> String {
    std::env::var("TIDEMILL_TEST_POSTGRES").expect(
        "these tests need a Postgres: run `cargo xtask test`, or set TIDEMILL_TEST_POSTGRES to a superuser's URL \
         (`cargo xtask postgres` starts one)",
    )
}

pub struct Databases {
    pub kind: Kind,
    pub dir: TempDir,
    pub store_url: String,
    pub business_url: String,
}

impl Databases {
    pub async fn new(kind: Kind) -> Databases {
        let dir = tempfile::tempdir().unwrap();
        let (store_url, business_url) = match kind {
            Kind::Sqlite => {
                let url = |name: &str| format!("sqlite://{}", dir.path().join(name).display());
                (url("store.db"), url("business.db"))
            }
            Kind::Postgres => (fresh_postgres().await, fresh_postgres().await),
        };
        Databases { kind, dir, store_url, business_url }
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

    /// Prevents all others from writing to a table of the business database (on SQLite: to any).
    pub async fn hold_business(&self, table: &str) -> Held {
        Held::take(&self.business_url, table).await
    }

    /// Prevents all others from writing to a table of the store (on SQLite: to any).
    pub async fn hold_store(&self, table: &str) -> Held {
        Held::take(&self.store_url, table).await
    }
}

/// A lock that the test holds against the host until it is released.
pub enum Held {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Held {
    async fn take(url: &str, table: &str) -> Held {
        if url.starts_with("sqlite") {
            let mut db = SqliteConnection::connect(url).await.unwrap();
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut db).await.unwrap();
            return Held::Sqlite(db);
        }
        let mut db = PgConnection::connect(url).await.unwrap();
        let lock = format!("SET search_path = tidemill, public; BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE");
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut db).await.unwrap();
        Held::Postgres(db)
    }

    pub async fn release(self) {
        match self {
            Held::Sqlite(mut db) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut db).await.unwrap();
                db.close().await.unwrap();
            }
            Held::Postgres(mut db) => {
                sqlx::raw_sql("ROLLBACK").execute(&mut db).await.unwrap();
                db.close().await.unwrap();
            }
        }
    }
}

async fn fresh_postgres() -> String {
    let base = postgres_url();
    let name = format!("it_{}", Uuid::now_v7().simple());
    let mut admin = PgConnection::connect(&base).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
    admin.close().await.unwrap();
    let (server, _) = base.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

pub async fn execute(url: &str, sql: &str) {
    let sql = AssertSqlSafe(sql.to_owned());
    if url.starts_with("sqlite") {
        let url = format!("{url}?mode=rwc");
        let mut db = SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    } else {
        let mut db = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
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
