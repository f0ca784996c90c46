//! A secret reaches its service and appears nowhere else: not in the log, the API, the database, the data
//! folder, nor in the displayed configuration.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use test_support::{needs, on_both};

use crate::support::database::{Databases, Kind};
use crate::support::process::tidemill;
use crate::support::site::{Site, eventually};

on_both!(secret_reaches_its_service_and_is_stored_nowhere_else);

const CANARY: &str = "canary-5b81e0c2";

/// A service that fails and repeats each request in its answer. Its thread ends with the process.
fn parrot() -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(String::new()));
    let ear = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            repeat(stream.unwrap(), &ear);
        }
    });
    (address, heard)
}

fn repeat(mut stream: TcpStream, ear: &Mutex<String>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    ear.lock().unwrap().push_str(&head);
    let length = head.len();
    let answer = format!("HTTP/1.1 500 Sorry\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{head}");
    let _ = stream.write_all(answer.as_bytes());
}

async fn secret_reaches_its_service_and_is_stored_nowhere_else(kind: Kind) {
    let databases = Databases::new(kind).await;
    let (service, heard) = parrot();
    let config = format!(
        r#"
        [secrets]
        token = {{ file = "token" }}
        [jobs.caller]
        plugin = "caller"
        config.payload = '{{"url": "http://{service}/"}}'
        [jobs.caller.grants]
        http = ["http://{service}"]
        secrets.token = {{ to = "http://{service}" }}
        "#
    );
    let site = Site::with_store(&databases.store_url, &config);
    std::fs::write(site.path("token"), format!("{CANARY}\n")).unwrap();
    site.install("caller", "caller");
    let host = site.serve().await;
    host.post("/api/v1/jobs/caller").await.unwrap();
    let tried = || async {
        host.get("/api/v1/items/caller/run").await.ok().filter(|item| item["attempts"][0].is_object())
    };
    let item = eventually("the item was tried", tried).await;
    assert!(heard.lock().unwrap().contains(&format!("authorization: Bearer {CANARY}\r\n")));
    // The service's answer is in the error's text, with the secret masked.
    let stars = "*".repeat(CANARY.len());
    assert!(item.to_string().contains(&format!("Bearer {stars}")), "{item}");

    let mut seen = item.to_string();
    for path in ["jobs", "runs", "items", "plugins", "alerts", "audit", "outbox", "jobs/caller/edits"] {
        seen += &host.get(&format!("/api/v1/{path}")).await.unwrap().to_string();
    }
    let shown = tidemill(&["config", "show", "--config", "tidemill.toml"], site.dir.path()).await;
    seen += &String::from_utf8(shown.stdout).unwrap();
    assert!(seen.contains("token = { file = "), "{seen}");
    let tables = match kind {
        Kind::Sqlite => Vec::new(),
        Kind::Postgres => {
            let named = "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'tidemill'";
            databases.store_texts(named).await
        }
    };
    for table in &tables {
        let rows = format!("SELECT CAST({table} AS TEXT) FROM tidemill.{table}");
        seen += &databases.store_texts(&rows).await.join("\n");
    }
    assert!(!seen.contains(CANARY), "{seen}");
    host.terminate().await;
    for folder in [site.dir.path(), databases.dir.path()] {
        without_the_canary(folder);
    }
}

/// Postgres requires a password from this user (xtask/src/postgres.rs), and trusts all others.
const ASKED: &str = "asked_for_password";

#[tokio::test]
async fn postgres_that_asks_for_a_password_gets_it() {
    needs!(Product, Postgres);
    let databases = Databases::new(Kind::Postgres).await;
    let (as_asked, database) = asked(&databases.store_url);
    let role = format!(
        "DO $$ BEGIN CREATE ROLE {ASKED} LOGIN PASSWORD '{CANARY}'; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
        ALTER DATABASE {database} OWNER TO {ASKED};"
    );
    databases.store(&role).await;
    let table = "CREATE TABLE witness (item_key TEXT, idempotency_key TEXT, attempt BIGINT, epoch BIGINT)";
    databases.business(&format!("{table}; GRANT ALL ON witness TO {ASKED}")).await;
    let config = format!(
        r#"
        store.password = "postgres"
        [secrets]
        postgres = {{ file = "token" }}
        [datasources.witness]
        url = "{}"
        password = "postgres"
        [jobs.witness]
        plugin = "witness"
        grants = {{ sql = {{ witness = "read-write" }}, events = ["witness"], keyvalue = true }}
        "#,
        asked(&databases.business_url).0
    );
    let site = Site::with_store(&as_asked, &config);
    site.install("witness", "witness");
    std::fs::write(site.path("token"), "wrong-5b81").unwrap();
    let (code, said) = site.refusal(&site.path("tidemill.toml")).await;
    assert_eq!(code, Some(1), "{said}");
    let expected = format!("password authentication failed for user \"{ASKED}\"");
    assert!(said.contains(&expected) && said.contains("the user and the password"), "{said}");
    assert!(!said.contains("wrong-5b81"), "{said}");

    std::fs::write(site.path("token"), CANARY).unwrap();
    let host = site.serve().await;
    host.post("/api/v1/jobs/witness").await.unwrap();
    let written =
        || async { (databases.business_number("SELECT COUNT(*) FROM witness").await > 0).then_some(()) };
    eventually("the datasource took a row", written).await;
    host.terminate().await;
    without_the_canary(site.dir.path());
}

/// The URL of the same database as that user, and the database's name.
fn asked(url: &str) -> (String, &str) {
    (url.replace("//postgres@", &format!("//{ASKED}@")), url.rsplit('/').next().unwrap())
}

/// Checks that no file except the secret's own contains it, in any format.
fn without_the_canary(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            without_the_canary(&path);
        } else if path.file_name().unwrap() != "token" {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}
