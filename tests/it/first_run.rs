//! The first minutes with the product: `tidemill demo` as a process, and every command against it.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use test_support::needs;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::process::{binary, free_port, tidemill};
use crate::support::site::{ask, eventually, items, text};
use crate::support::{http, plugins};

const WALLETS: &str = "wallet-keygen-retry";
/// Users of the demo without a complete wallet.
const INCOMPLETE: u64 = 60;
const PATIENCE: Duration = Duration::from_secs(60);

struct Demo {
    dir: TempDir,
    child: Child,
    address: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
}

impl Demo {
    /// A simulated minute lasts half a second, so that a test can wait for the end.
    async fn start(seconds: &str) -> Demo {
        let dir = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut child = Command::new(binary())
            .args([
                "demo",
                "--minute",
                "0.5",
                "--for",
                seconds,
                "--listen",
                &address.to_string(),
                "--data",
                "demo",
            ])
            .arg("--plugins")
            .arg(std::path::absolute(plugins::built()).unwrap())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.path().join("stderr")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard = said.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                heard.lock().unwrap().push(line);
            }
        });
        let demo = Demo { dir, child, address, said };
        demo.until_said("min  wallets ").await;
        demo
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    async fn until_said(&self, wanted: &str) {
        eventually(wanted, || async { self.said().contains(wanted).then_some(()) }).await;
    }

    async fn run(&self, args: &[&str]) -> Output {
        ask(self.address, args, self.dir.path()).await
    }

    /// The table of a command that must succeed.
    async fn table(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{args:?}");
        text(&output.stdout)
    }

    async fn json(&self, args: &[&str]) -> Value {
        let table = self.table(&[args, &["--output", "json"]].concat()).await;
        serde_json::from_str(&table).unwrap_or_else(|e| panic!("{args:?}: {e} in {table}"))
    }

    /// The error message of a command that must fail.
    async fn complaint(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args).await;
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(code), String::new()), "{args:?}");
        text(&output.stderr)
    }

    async fn get(&self, path: &str) -> Value {
        http::get(self.address, path).await.json()
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stderr")).unwrap()
    }

    async fn ended(&mut self) {
        let ended =
            tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").unwrap();
        assert!(ended.success(), "{ended}: {}", self.stderr());
        self.until_said("stopped; the data stays in ").await;
    }
}

#[tokio::test]
async fn demo_completes_every_wallet_and_reports_it() {
    needs!(Product);
    let mut demo = Demo::start("300").await;
    for line in [
        "300 users, 60 of them without a complete wallet; a minute takes 0.5 s.",
        "  page     http://127.0.0.1:",
    ] {
        assert!(demo.said().contains(line), "{}", demo.said());
    }
    let page = http::get(demo.address, "/").await;
    assert_eq!(page.status, 200);
    for job in [WALLETS, "hello"] {
        assert!(page.body.contains(job), "{job} is on the page");
    }
    // This takes a while, because of the cap of ten per run and the backoff.
    let jobs = demo.get("/api/v1/jobs").await;
    assert!(items(&jobs, "resolved") < INCOMPLETE, "{jobs}");
    let all_resolved = || async {
        let items = demo.get(&format!("/api/v1/items?job={WALLETS}&limit=500")).await;
        let items = items["items"].as_array().unwrap();
        let done = items.len() as u64 == INCOMPLETE && items.iter().all(|item| item["state"] == "resolved");
        done.then_some(())
    };
    eventually("every wallet is complete", all_resolved).await;
    demo.until_said("every wallet is complete. The host keeps checking every minute; stop it with ctrl-c.")
        .await;
    demo.until_said("wallets 300/300 complete (none left) | items: 60 resolved | mpc: ").await;
    let runs = demo.get(&format!("/api/v1/runs?job={WALLETS}&limit=500")).await;
    for run in runs["runs"].as_array().unwrap() {
        assert!(run["queued"].as_u64().unwrap() <= 10, "{run}");
    }
    let id = demo.child.id().unwrap().to_string();
    Command::new("kill").args(["-INT", &id]).status().await.unwrap();
    demo.ended().await;
    let complaints = demo.stderr();
    let of_the_job = |line: &str| line.contains(" WARN guest: wallet_keygen_retry: user ");
    assert!(complaints.lines().all(of_the_job), "{complaints}");
}

#[tokio::test]
async fn demo_ends_at_the_given_time() {
    needs!(Product);
    let began = Instant::now();
    let mut demo = Demo::start("3").await;
    let mode = std::fs::metadata(demo.dir.path().join("demo")).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o700, "others cannot read the demo's data");
    demo.ended().await;
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert!(
        demo.said().lines().filter(|line| line.contains(" min  wallets ")).count() >= 4,
        "{}",
        demo.said()
    );
    assert!(http_is_closed(demo.address).await);
}

async fn http_is_closed(address: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(address).await.is_err()
}

#[tokio::test]
async fn every_list_is_available_as_table_and_as_json() {
    needs!(Product);
    let demo = Demo::start("120").await;
    eventually("a few runs", || async {
        let runs = demo.get(&format!("/api/v1/runs?job={WALLETS}")).await;
        (runs["runs"].as_array().unwrap().len() >= 3).then_some(())
    })
    .await;
    let lists: [(&[&str], &str, &[&str]); 7] = [
        (&["jobs"], "jobs", &["JOB", "BLOCKED", WALLETS, "hello"]),
        (&["runs", "--limit", "500"], "runs", &["RUN", "SUMMARY", WALLETS, "found "]),
        (&["runs", "--job", WALLETS, "--limit", "2"], "runs", &["RUN", WALLETS]),
        (&["items", "--job", WALLETS, "--limit", "3"], "items", &["KEY", "ATTEMPTS", WALLETS]),
        (&["plugins"], "plugins", &["DIGEST", "active", WALLETS, "hello"]),
        (&["hosts"], "hosts", &["HEARTBEAT", "demo", "this one"]),
        (&["audit", "--limit", "500"], "audit", &["WHO", "plugin_active", WALLETS]),
    ];
    for (args, name, words) in lists {
        let table = demo.table(args).await;
        for word in words {
            assert!(table.contains(word), "{word:?} is not in {table}");
        }
        let json = demo.json(args).await;
        assert!(!json[name].as_array().unwrap().is_empty(), "{args:?}: {json}");
    }
    assert_eq!(demo.json(&["runs", "--limit", "2"]).await["runs"].as_array().unwrap().len(), 2);
    assert_eq!(demo.table(&["items", "--state", "abandoned"]).await, "none\n");
    let waiting = demo.json(&["items", "--job", "hello", "--state", "resolved"]).await;
    assert!(waiting["items"].as_array().unwrap().iter().all(|item| item["job"] == "hello"));
}

#[tokio::test]
async fn people_start_runs() {
    needs!(Product);
    let demo = Demo::start("120").await;
    // If the plugin is still being compiled, the answer has the id and a note that the run waits.
    let started = demo.json(&["jobs", "trigger", "hello"]).await;
    let run = started["run_id"].as_str().unwrap().to_owned();
    let finished = || async {
        let run = demo.get(&format!("/api/v1/runs/{run}")).await;
        (run["state"] == "finished").then_some(run)
    };
    let run = eventually("the run that was started by hand", finished).await;
    assert_eq!((run["started_by"].as_str(), run["job"].as_str()), (Some("local"), Some("hello")));

    let audit = demo.json(&["audit", "--limit", "500"]).await;
    let entries = audit["audit"].as_array().unwrap();
    let triggered = entries.iter().find(|entry| entry["actor"] == "local").unwrap();
    assert_eq!(triggered["job"], "hello", "{triggered}");
}

/// An item without further attempts: its plugin is removed.
async fn item_at_rest(demo: &Demo) -> String {
    let awaited = || async {
        let items = demo.get(&format!("/api/v1/items?job={WALLETS}&state=awaiting")).await;
        (!items["items"].as_array().unwrap().is_empty()).then_some(())
    };
    eventually("an item that awaits", awaited).await;
    let plugin = format!("demo/plugins/{WALLETS}.wasm");
    std::fs::remove_file(demo.dir.path().join(plugin)).unwrap();
    let at_rest = || async {
        let jobs = demo.get("/api/v1/jobs").await;
        let mut all = jobs["jobs"].as_array().unwrap().iter();
        let wallets = all.find(|job| job["name"] == WALLETS).unwrap();
        let counts = wallets["items"].as_array().unwrap();
        let runs = counts.iter().any(|count| count["state"] == "running");
        (wallets["blocked"].is_string() && !runs).then_some(())
    };
    eventually("the plugin is gone", at_rest).await;
    let args = ["items", "--job", WALLETS, "--state", "awaiting", "--limit", "1"];
    demo.json(&args).await["items"][0]["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn people_decide_about_items() {
    needs!(Product);
    let demo = Demo::start("120").await;
    let key = item_at_rest(&demo).await;
    let key = key.as_str();
    for (decision, shown) in [("abandon", " abandoned "), ("retry", " pending "), ("resolve", " resolved ")] {
        let table = demo.table(&["items", decision, WALLETS, key, "--notes", "seen by a test"]).await;
        assert!(table.contains(key) && table.contains(shown), "{table}");
    }
    let refused = demo.complaint(&["items", "abandon", WALLETS, key], 1).await;
    assert_eq!(refused, "tidemill: an item that is resolved cannot be abandoned_manually\n");
    let shown = demo.table(&["items", "show", WALLETS, key]).await;
    for words in
        [&format!("key               {key}\n"), "state             resolved\n", "EPOCH", " awaiting "]
    {
        assert!(shown.contains(words), "{words:?} is not in {shown}");
    }
    let shown = demo.json(&["items", "show", WALLETS, key]).await;
    assert_eq!(shown["item"]["key"], key);
    assert!(!shown["attempts"].as_array().unwrap().is_empty());

    let audit = demo.json(&["audit", "--limit", "500"]).await;
    let entries = audit["audit"].as_array().unwrap().iter();
    let manual: Vec<_> = entries
        .filter(|entry| entry["subject"] == key && entry["actor"] == "local")
        .map(|entry| (entry["action"].as_str().unwrap(), entry["detail"].as_str().unwrap()))
        .collect();
    let expected = [
        ("resolved_manually", "scheduled -> resolved; seen by a test"),
        ("retried_manually", "abandoned -> scheduled; seen by a test"),
        ("abandoned_manually", "awaiting -> abandoned; seen by a test"),
    ];
    assert_eq!(manual, expected);
}

#[tokio::test]
async fn engine_events_are_streamed() {
    needs!(Product);
    let demo = Demo::start("120").await;
    let mut lines = http::stream(demo.address, "/api/v1/events").await;
    let mut kinds = std::collections::BTreeSet::new();
    let read = async {
        let mut event = String::new();
        while !(kinds.contains("run-started") && kinds.contains("attempt-ended")) {
            let line = lines.next_line().await.unwrap().expect("the stream goes on");
            if let Some(kind) = line.strip_prefix("event: ") {
                event = kind.to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                let document: Value = serde_json::from_str(data).unwrap();
                assert_eq!(document["kind"], event);
                kinds.insert(event.clone());
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("events");
}

#[tokio::test]
async fn commands_end_with_0_1_or_2() {
    needs!(Product);
    let demo = Demo::start("120").await;
    let here = Path::new(".");
    let refused = demo.complaint(&["items", "show", WALLETS, "nobody"], 1).await;
    assert_eq!(
        refused,
        format!(
            "tidemill: there is no item \"nobody\" of job \"{WALLETS}\"; the lists (`tidemill jobs`, `runs`, `items`) show what there is\n"
        )
    );
    let refused = demo.complaint(&["jobs", "trigger", "nothing"], 1).await;
    assert!(refused.starts_with("tidemill: there is no job \"nothing\""), "{refused}");
    let refused = demo.complaint(&["items", "--state", "lost"], 1).await;
    assert!(refused.contains("use pending, retrying, scheduled (both of them), running"), "{refused}");
    for usage in [
        &["items", "--colour", "blue"][..],
        &["jobs", "trigger"],
        &["nothing"],
        &["items", "--output", "xml"],
    ] {
        let output = demo.run(usage).await;
        assert_eq!(output.status.code(), Some(2), "{usage:?}");
    }
    let away = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let output = ask(away, &["jobs"], here).await;
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.starts_with(&format!("tidemill: cannot reach tidemill at http://{away}: ")), "{said}");
    assert!(said.ends_with("; start it with `tidemill serve`, or name it with --server\n"), "{said}");
    let output = tidemill(&["jobs", "--server", "ftp://x"], here).await;
    assert_eq!(output.status.code(), Some(2));
    let output = tidemill(&["demo", "--minute", "0"], here).await;
    assert_eq!(output.status.code(), Some(2));
    let output = tidemill(
        &["demo", "--plugins", "/nowhere", "--data", demo.dir.path().join("x").to_str().unwrap()],
        here,
    )
    .await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("there is no wallet-keygen-retry.wasm in /nowhere: build it with "),
        "{output:?}"
    );
}

#[tokio::test]
async fn schedules_are_tried_out_without_a_host() {
    needs!(Product);
    let here = Path::new(".");
    let preview = ["schedule", "preview", "30 2 * * *", "--tz", "Europe/Berlin", "--count", "3"];
    let table = tidemill(&preview, here).await;
    assert_eq!(table.status.code(), Some(0));
    let table = text(&table.stdout);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(
        table.lines().skip(1).all(|line| line.contains(" 02:30:00 CE") || line.contains(" 03:30:00 CEST")),
        "{table}"
    );
    let json = tidemill(&[&preview[..], &["--output", "json"]].concat(), here).await;
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((json["cron"].as_str(), json["tz"].as_str()), (Some("30 2 * * *"), Some("Europe/Berlin")));
    assert_eq!(json["instants"].as_array().unwrap().len(), 3);
    for wrong in [
        ["schedule", "preview", "61 * * * *", "--tz", "UTC"],
        ["schedule", "preview", "@daily", "--tz", "Mars/Base"],
    ] {
        let output = tidemill(&wrong, here).await;
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
        assert!(text(&output.stderr).contains("; use "), "{output:?}");
    }
}
