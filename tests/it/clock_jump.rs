//! The clock of a host or of the database is ahead for a while. A test cannot move the machine's clock, so
//! libfaketime moves the C library's clock of that process.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use test_support::{Postgres, needs};

use crate::support::database::{Databases, Kind};
use crate::support::process::Process;
use crate::support::site::{Site, eventually, text};
use crate::support::{http, plugins};

const JOB: &str = "[jobs.hello]\nplugin = \"hello\"\nschedule = { every = \"1s\" }\n";

/// A clock that processes read through libfaketime. They read its offset from a file each time.
struct MovedClock {
    folder: TempDir,
}

impl MovedClock {
    fn new() -> MovedClock {
        let folder = tempfile::tempdir().unwrap();
        // Postgres runs as another user, which must be able to read the file.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let clock = MovedClock { folder };
        clock.set("+0");
        clock
    }

    /// Moves the clock of running and later processes by an offset such as `+1h`.
    fn set(&self, offset: &str) {
        let draft = self.folder.path().join("offset.draft");
        std::fs::write(&draft, offset).unwrap();
        std::fs::rename(draft, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }

    /// Environment variables that make a process read this clock.
    fn environment(&self) -> Vec<String> {
        vec![
            format!("LD_PRELOAD={}", library()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file().display()),
            "FAKETIME_NO_CACHE=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        ]
    }
}

/// A site in which the clock of the hosts or of the database is moved.
struct Moved {
    databases: Databases,
    site: Site,
    clock: MovedClock,
    server: Option<Postgres>,
}

impl Moved {
    async fn hosts(kind: Kind) -> Moved {
        Moved::of(Databases::new(kind).await, MovedClock::new(), None)
    }

    /// Starts a separate Postgres whose clock is moved.
    async fn database() -> Moved {
        let clock = MovedClock::new();
        let server = Postgres::start_with(&clock.environment()).await;
        Moved::of(Databases::on_server(&server.url()), clock, Some(server))
    }

    fn of(databases: Databases, clock: MovedClock, server: Option<Postgres>) -> Moved {
        let site = Site::with_store(&databases.store_url, JOB);
        plugins::install(&site.path("plugins"), "hello", "hello");
        Moved { databases, site, clock, server }
    }

    fn set(&self, offset: &str) {
        self.clock.set(offset);
    }

    async fn serve(&self) -> Process {
        let wrapper = match self.server {
            Some(_) => Vec::new(),
            None => [vec!["env".to_owned()], self.clock.environment()].concat(),
        };
        let config = self.site.path("tidemill.toml");
        let mut host = Process::spawn_by(&wrapper, &config, self.site.address);
        host.ready().await;
        self.site.until_active("hello").await;
        host
    }

    async fn runs(&self) -> i64 {
        self.databases.store_number("SELECT count(*) FROM run").await
    }

    /// Number of runs that are scheduled more than half an hour ahead of real time.
    async fn runs_ahead(&self) -> i64 {
        let limit = jiff::Timestamp::now().as_millisecond() + 30 * 60_000;
        let ahead = format!("SELECT count(*) FROM run WHERE scheduled_at_ms > {limit}");
        self.databases.store_number(&ahead).await
    }

    /// Whether the newest scheduled run is within a minute of real time.
    async fn latest_run_is_at_the_present(&self) -> bool {
        let latest =
            "SELECT scheduled_at_ms FROM run WHERE scheduled_at_ms IS NOT NULL ORDER BY id DESC LIMIT 1";
        let latest = self.databases.store_number(latest).await;
        (jiff::Timestamp::now().as_millisecond() - latest).abs() < 60_000
    }

    /// Waits until the schedule started this many more runs.
    async fn until_more_runs(&self, more: i64) {
        let wanted = self.runs().await + more;
        eventually(&format!("{wanted} runs"), || async { (self.runs().await >= wanted).then_some(()) }).await;
    }
}

/// Paths of Debian's libfaketime on the architectures that run the tests.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

fn library() -> &'static str {
    let found = LIBRARIES.into_iter().find(|file| Path::new(file).is_file());
    found.expect("Debian's package libfaketime is installed: `cargo xtask test` does it")
}

/// Checks that the schedule starts runs at the present, that each instant ran once, and that log, alert and
/// `doctor` report the jump.
async fn the_schedule_goes_on(moved: &Moved) {
    moved.until_more_runs(3).await;
    let twice = "SELECT count(*) FROM (SELECT scheduled_at_ms FROM run WHERE job = 'hello' GROUP BY scheduled_at_ms \
                 HAVING count(*) > 1) AS again";
    assert_eq!(moved.databases.store_number(twice).await, 0);
    let raised = || async {
        let alerts = http::get(moved.site.address, "/api/v1/alerts").await.json();
        let is_jump = |alert: &Value| alert["kind"] == "CLOCK_WAS_AHEAD";
        alerts["alerts"].as_array()?.iter().any(is_jump).then_some(())
    };
    eventually("the alert about the clock", raised).await;
    let doctor = moved.site.ask(&["doctor"]).await;
    let report = text(&doctor.stdout) + &text(&doctor.stderr);
    assert!(report.contains("a clock was ahead"), "{report}");
    assert!(moved.site.log().contains("a clock was ahead"), "the log has a warning");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_an_hour_ahead_while_it_runs() {
    needs!(Product);
    an_hour_ahead_and_back(Moved::hosts(Kind::Sqlite).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_an_hour_ahead_while_a_host_runs() {
    needs!(Product, PostgresPrograms);
    an_hour_ahead_and_back(Moved::database().await).await;
}

async fn an_hour_ahead_and_back(moved: Moved) {
    let host = moved.serve().await;
    moved.until_more_runs(1).await;
    moved.set("+1h");
    // A host adopts a new time with its heartbeat.
    eventually("a run an hour ahead", || async { (moved.runs_ahead().await > 0).then_some(()) }).await;
    moved.set("+0");
    eventually("runs at the present", || async { moved.latest_run_is_at_the_present().await.then_some(()) })
        .await;
    the_schedule_goes_on(&moved).await;
    host.terminate().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_two_days_ahead_until_it_is_killed() {
    needs!(Product);
    two_days_ahead_with_a_restart_between(Moved::hosts(Kind::Sqlite).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_is_two_days_ahead_until_the_host_is_killed() {
    needs!(Product, PostgresPrograms);
    two_days_ahead_with_a_restart_between(Moved::database().await).await;
}

async fn two_days_ahead_with_a_restart_between(moved: Moved) {
    moved.set("+2d");
    let host = moved.serve().await;
    moved.until_more_runs(2).await;
    assert!(moved.runs_ahead().await > 0);
    host.kill9().await;
    moved.set("+0");
    let host = moved.serve().await;
    the_schedule_goes_on(&moved).await;
    host.terminate().await;
}

/// On Postgres, the database's clock is authoritative.
#[tokio::test]
async fn a_host_beside_postgres_is_not_moved_by_its_own_clock() {
    needs!(Product, Postgres);
    let moved = Moved::hosts(Kind::Postgres).await;
    moved.set("+2d");
    let host = moved.serve().await;
    moved.until_more_runs(2).await;
    assert_eq!(moved.runs_ahead().await, 0);
    host.terminate().await;
}
