//! A store behind PgBouncer: with session pooling everything works; with other modes the store is refused.

use std::time::Duration;

use domain::plugin::Statement;
use sqlx::{Connection, PgConnection};
use test_support::{Kind, PgBouncer, execute, needs, run};

use super::support::{SHOP, T, at, config, failed, job};
use crate::db::{Driver, Session, text};
use crate::{Store, StoreError};

const DROPS_OPTIONS: &str = "ignore_startup_parameters = extra_float_digits,options";

fn postgres(store: &Store) -> &crate::db::Server {
    match &store.db.driver {
        Driver::Postgres(server) => server,
        Driver::Sqlite { .. } => panic!("a case of Postgres"),
    }
}

async fn settings_of_each_connection(store: &Store) -> Vec<String> {
    let show = "SELECT concat_ws(' ', current_schema(), current_setting('synchronous_commit'),
        current_setting('statement_timeout'), current_setting('default_transaction_isolation'),
        current_setting('enable_seqscan'))";
    let mut held = Vec::new();
    let mut settings = Vec::new();
    for _ in 0..8 {
        let mut conn = postgres(store).acquire().await.unwrap();
        settings.push(text(&mut conn, show).await.unwrap().unwrap());
        held.push(conn);
    }
    settings
}

/// Defaults of the database and the pooler that the store's sessions must override.
async fn works_behind(t: T, pooler: &[&str]) {
    let name = t.url.rsplit('/').next().unwrap();
    for setting in
        ["synchronous_commit = off", "default_transaction_isolation = serializable", "statement_timeout = 0"]
    {
        execute(&t.url, &format!("ALTER DATABASE {name} SET {setting}")).await;
    }
    execute(&t.url, "DROP SCHEMA tidemill CASCADE").await;
    let bouncer = PgBouncer::start(&t.url, pooler).await;
    let behind = Store::open(&config(&bouncer.url(&t.url), &t.shop_url)).await.unwrap().into();
    let behind = T { store: behind, ..t.clone() };
    let settings = settings_of_each_connection(&behind.store).await;
    assert_eq!(settings, ["tidemill on 20s read committed off"; 8]);

    behind.store.jobs().put(&job(), at(0)).await.unwrap();
    behind.attempt("a", failed(), 0).await;
    let strays =
        "SELECT COUNT(*) AS n FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'shop_exists'";
    assert_eq!(behind.number(strays).await, 0);
    // A host that connects directly works on the same store, and each host gets the other's notifications.
    let direct = Store::open(&config(&t.url, &t.shop_url)).await.unwrap();
    assert_eq!(direct.items().list(None, None, 10).await.unwrap().len(), 1);
    hears(&behind.store, &direct).await;
    hears(&direct, &behind.store).await;
    direct.close().await;
    behind.store.close().await;
}

async fn hears(one: &Store, other: &Store) {
    let woken = one.feed().woken();
    // Listening may begin after the first notifications.
    let calls = async {
        let mut rounds = tokio::time::interval(Duration::from_millis(100));
        loop {
            rounds.tick().await;
            other.feed().wake();
        }
    };
    let heard = async {
        tokio::select! {
            () = woken => {}
            () = calls => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("a wake-up is not heard");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_drop_startup_options_serve() {
    needs!(PgBouncer);
    run(Kind::Postgres, |t| works_behind(t, &[DROPS_OPTIONS, "pool_mode = session"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_without_any_setting_of_the_pooler_serve() {
    needs!(PgBouncer);
    run(Kind::Postgres, |t| works_behind(t, &["pool_mode = session"])).await;
}

/// A pooler that does not clean up passes on the state of other clients.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_others_used_serve() {
    needs!(PgBouncer);
    async fn case(t: T) {
        let bouncer =
            PgBouncer::start(&t.url, &[DROPS_OPTIONS, "pool_mode = session", "server_reset_query ="]).await;
        let mut other = PgConnection::connect(&bouncer.url(&t.url)).await.unwrap();
        let left = "SET search_path TO public; SET statement_timeout TO 0; CREATE TEMP TABLE item (id TEXT)";
        sqlx::raw_sql(left).execute(&mut other).await.unwrap();
        other.close().await.unwrap();
        let behind = Store::open(&config(&bouncer.url(&t.url), &t.shop_url)).await.unwrap();
        let behind = T { store: behind.into(), ..t };
        behind.attempt("a", failed(), 0).await;
        behind.store.close().await;
        // Uses the server connections of that store, with its prepared statements.
        let again = Store::open(&config(&bouncer.url(&behind.url), &behind.shop_url)).await.unwrap();
        let again = T { store: again.into(), ..behind };
        again.attempt("b", failed(), 1).await;
        again.store.close().await;
    }
    run(Kind::Postgres, case).await;
}

async fn is_refused(t: T, pooler: &[&str]) {
    execute(&t.url, "DROP SCHEMA tidemill CASCADE").await;
    let bouncer = PgBouncer::start(&t.url, pooler).await;
    let url = bouncer.url(&t.url);
    // Several server connections exist already, as on a pooler in use.
    let mut warm = Vec::new();
    for _ in 0..3 {
        let mut conn = PgConnection::connect(&url).await.unwrap();
        let _ = sqlx::raw_sql("BEGIN").execute(&mut conn).await;
        warm.push(conn);
    }
    drop(warm);
    let error = Store::open(&config(&url, &t.shop_url)).await.err().expect("it was opened");
    assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
    assert!(error.to_string().contains(REFUSED), "{error}");
    let made = "SELECT CAST(COUNT(*) AS text) FROM pg_tables WHERE tablename = 'item'";
    let mut conn = PgConnection::connect(&t.url).await.unwrap();
    assert_eq!(text(&mut conn, made).await.unwrap().as_deref(), Some("0"), "tables were made");
}

const REFUSED: &str =
    "a connection pooler in transaction or statement mode is between this host and Postgres";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_pooling_is_refused_by_name() {
    needs!(PgBouncer);
    run(Kind::Postgres, |t| is_refused(t, &[DROPS_OPTIONS, "pool_mode = transaction"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_pooling_in_turns_is_refused_by_name() {
    needs!(PgBouncer);
    run(Kind::Postgres, |t| {
        is_refused(t, &[DROPS_OPTIONS, "pool_mode = transaction", "server_round_robin = 1"])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_pooling_over_one_connection_is_refused_by_name() {
    needs!(PgBouncer);
    run(Kind::Postgres, |t| is_refused_cold(t, &["pool_mode = transaction", "default_pool_size = 1"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statement_pooling_is_refused_by_name() {
    needs!(PgBouncer);
    run(Kind::Postgres, |t| is_refused_cold(t, &[DROPS_OPTIONS, "pool_mode = statement"])).await;
}

async fn is_refused_cold(t: T, pooler: &[&str]) {
    let bouncer = PgBouncer::start(&t.url, pooler).await;
    let error = Store::open(&config(&bouncer.url(&t.url), &t.shop_url)).await.err().expect("it was opened");
    assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
    assert!(error.to_string().contains(REFUSED), "{error}");
}

/// A setting is applied on one server connection and read from another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_setting_is_named() {
    needs!(PgBouncer);
    async fn case(t: T) {
        let pooler = ["pool_mode = transaction", "server_round_robin = 1"];
        let bouncer = PgBouncer::start(&t.url, &pooler).await;
        let options: sqlx::postgres::PgConnectOptions = bouncer.url(&t.url).parse().unwrap();
        let options = options.extra_float_digits(None);
        let mut conn = PgConnection::connect_with(&options).await.unwrap();
        let mut other = PgConnection::connect_with(&options).await.unwrap();
        for conn in [&mut conn, &mut other] {
            sqlx::raw_sql("BEGIN").execute(conn).await.unwrap();
        }
        for conn in [&mut conn, &mut other] {
            sqlx::raw_sql("ROLLBACK").execute(conn).await.unwrap();
        }
        let refusal = Session::of_store(&options).prepare(&mut conn).await.unwrap_err();
        let text = refusal.text();
        assert!(text.starts_with("the session setting search_path is "), "{text}");
        assert!(text.contains("just after it was set to \"tidemill, pg_temp\""), "{text}");
        assert!(text.contains("pool_mode = session"), "{text}");
    }
    run(Kind::Postgres, case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_setting_is_reported() {
    needs!(PgBouncer);
    async fn case(t: T) {
        let bouncer = PgBouncer::start(&t.url, &[DROPS_OPTIONS, "pool_mode = session"]).await;
        let url = format!("{}?options[no_such_setting]=1", bouncer.url(&t.url));
        let error = Store::open(&config(&url, &t.shop_url)).await.err().expect("it was opened");
        assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
        assert!(error.to_string().contains("no_such_setting"), "{error}");
    }
    run(Kind::Postgres, case).await;
}

/// Behind a pooler, earlier versions created their tables there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_the_wrong_schema_is_not_joined_by_a_second_one() {
    needs!(PgBouncer);
    async fn case(t: T) {
        let moves = "DO $$ DECLARE name text; BEGIN FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'tidemill'
            LOOP EXECUTE format('ALTER TABLE tidemill.%I SET SCHEMA public', name); END LOOP; END $$; DROP SCHEMA tidemill CASCADE";
        execute(&t.url, moves).await;
        let error = Store::open(&config(&t.url, &t.shop_url)).await.err().expect("it was opened");
        assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
        assert!(error.to_string().contains("this database has a store in the schema public"), "{error}");
    }
    run(Kind::Postgres, case).await;
}

fn statement(sql: &str) -> Statement {
    Statement { datasource: SHOP.to_owned(), sql: sql.to_owned(), writes: false, params: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_a_datasources_url_hold_behind_a_pooler() {
    needs!(PgBouncer);
    async fn case(t: T) {
        execute(&t.url, "CREATE SCHEMA far; CREATE TABLE far.hidden (id INTEGER)").await;
        let bouncer = PgBouncer::start(&t.url, &[DROPS_OPTIONS, "pool_mode = session"]).await;
        let shop_url = format!("{}?options[search_path]=far", bouncer.url(&t.url));
        let store = Store::open(&config(&t.url, &shop_url)).await.unwrap();
        assert_eq!(store.attempts().check_statement(&statement("SELECT id FROM hidden")).await, Ok(()));
        store.close().await;
    }
    run(Kind::Postgres, case).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_datasource_behind_transaction_pooling_is_refused_by_name() {
    needs!(PgBouncer);
    async fn case(t: T) {
        let bouncer = PgBouncer::start(&t.url, &[DROPS_OPTIONS, "pool_mode = transaction"]).await;
        let store = Store::open(&config(&t.url, &bouncer.url(&t.url))).await.unwrap();
        let error =
            store.attempts().check_statement(&statement("SELECT id FROM shop_exists")).await.unwrap_err();
        assert!(error.contains(REFUSED), "{error}");
        store.close().await;
    }
    run(Kind::Postgres, case).await;
}
