//! Plugins that change while work runs: running attempts end on their version, later ones use the new
//! version, and other files in the folder change nothing except the report about them.

mod bomb;
mod folder;
mod load;
mod pins;
mod releases;
mod unseen;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use domain::flow::Flow;
use domain::id::Digest;
use domain::item::State;
use domain::job::JobSpec;
use domain::plugin::{PluginVersion, VersionState};
use domain::runner::Readiness;
use engine::Engine;
use store::Store;
use store::items::AttemptView;
use test_support::{needs, on_both};

use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, job, manual};
use crate::support::{http, plugins};

/// Far below the interval of periodic folder scans: a change that is found this soon was notified.
const SOON: Duration = Duration::from_secs(10);

on_both!(
    running_attempts_keep_their_version_and_later_ones_use_the_new,
    without_its_file_a_job_waits_and_loses_nothing,
);

struct Scene {
    databases: Databases,
    host: Host,
    job: JobSpec,
}

/// A host with one job, whose plugin is `built_as` under the job's name; "" installs no plugin.
async fn scene(kind: Kind, built_as: &str, job: JobSpec) -> Scene {
    let databases = Databases::new(kind).await;
    if !built_as.is_empty() {
        plugins::install(&databases.dir.path().join("plugins"), built_as, job.plugin.as_str());
    }
    let host = Host::start("one", &databases, &manual(), vec![job.clone()]).await;
    Scene { databases, host, job }
}

/// The job `versioned`, whose one item gets the version's letter as its note.
async fn versioned() -> Scene {
    scene(Kind::Sqlite, "versioned-a", job("versioned")).await
}

impl Scene {
    fn file(&self) -> PathBuf {
        self.host.plugins.join(format!("{}.wasm", self.job.plugin))
    }

    fn install(&self, built_as: &str) {
        plugins::install(&self.host.plugins, built_as, self.job.plugin.as_str());
    }

    /// Replaces the plugin's file by rename.
    fn replace(&self, bytes: &[u8]) {
        let draft = self.host.plugins.join(".draft");
        fs::write(&draft, bytes).unwrap();
        fs::rename(&draft, self.file()).unwrap();
    }

    fn digest(&self) -> Option<Digest> {
        match self.host.app.engine.readiness(&self.job) {
            Readiness::Ready(digest) => Some(digest),
            Readiness::Blocked(_) => None,
        }
    }

    fn blocked(&self) -> Option<String> {
        match self.host.app.engine.readiness(&self.job) {
            Readiness::Ready(_) => None,
            Readiness::Blocked(why) => Some(why),
        }
    }

    /// Waits until a version other than `old` is active.
    async fn swapped(&mut self, old: Option<Digest>) -> Digest {
        let job = self.job.clone();
        let other = move |host: &Host| match host.app.engine.readiness(&job) {
            Readiness::Ready(digest) => Some(digest) != old,
            Readiness::Blocked(_) => false,
        };
        self.host.until("another version is active", other).await;
        self.digest().unwrap()
    }

    async fn trigger(&self) {
        self.host.app.engine.trigger(&self.job.name, None, "test").await.unwrap();
    }

    /// Makes one more attempt of the job's one item, and returns its note.
    async fn note(&mut self) -> String {
        let attempt = self.attempt().await;
        assert_eq!(attempt.digest, self.digest().map(|digest| digest.to_string()));
        attempt.note.unwrap()
    }

    /// The same, on any version.
    async fn attempt(&mut self) -> AttemptView {
        run_to_its_end(&self.host.app.engine, &self.host.app.store, &self.job).await;
        let attempt = self.attempts("run").await.remove(0);
        assert_eq!(attempt.verdict, "resolved", "{attempt:?}");
        attempt
    }

    /// Returns the note once all changes are found: a scan that began before the last change may restore the
    /// previous state, and the next scan corrects it.
    async fn note_at_rest(&mut self, first: Option<Digest>) -> String {
        let mut seen = Some(self.swapped(first).await);
        let rest = async {
            let mut since = Instant::now();
            while since.elapsed() < Duration::from_secs(1) {
                self.host.something().await;
                if self.digest() != seen {
                    (since, seen) = (Instant::now(), self.digest());
                }
            }
        };
        tokio::time::timeout(SOON, rest).await.expect("the scans end");
        self.note().await
    }

    /// Newest first.
    async fn attempts(&self, key: &str) -> Vec<AttemptView> {
        self.host.app.store.items().attempts(self.job.name.as_str(), key, 100).await.unwrap()
    }

    async fn count(&self, state: State) -> usize {
        self.host.app.store.items().list(None, Some(state), 1_000).await.unwrap().len()
    }

    async fn until_count(&mut self, state: State, wanted: usize) {
        let wait = async {
            while self.count(state).await != wanted {
                self.host.something().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
        assert!(waited.is_ok(), "waited for {wanted} items that are {state}");
    }

    /// Waits until the newest version is rejected, and returns the reason.
    async fn refusal(&mut self, among: &str) -> String {
        let reason = |version: &PluginVersion| match &version.state {
            VersionState::Rejected(reason) if reason.contains(among) => Some(reason.clone()),
            _ => None,
        };
        let newest = |host: &Host| host.app.sandbox.versions().first().and_then(reason);
        self.host.until(among, |host| newest(host).is_some()).await;
        newest(&self.host).unwrap()
    }

    /// Waits until the folder's problem is reported.
    async fn problem(&mut self, among: &str) {
        let told = async {
            loop {
                match self.told().await["problem"].as_str() {
                    Some(problem) => return problem.to_owned(),
                    None => self.host.something().await,
                }
            }
        };
        let problem = tokio::time::timeout(SOON, told).await.expect("the problem is reported");
        let expected = format!("cannot read the plugins folder {}: {among}", self.host.plugins.display());
        assert!(problem.starts_with(&expected), "{problem}");
    }

    async fn told(&self) -> serde_json::Value {
        http::get(self.host.app.address, "/api/v1/plugins").await.json()
    }
}

async fn running_attempts_keep_their_version_and_later_ones_use_the_new(kind: Kind) {
    let config = BTreeMap::from([("count".to_owned(), "4".to_owned()), ("ms".to_owned(), "4000".to_owned())]);
    let mut scene = scene(
        kind,
        "sleeper",
        JobSpec { config, flow: Flow { concurrency: 2, ..Flow::default() }, ..job("swapped") },
    )
    .await;
    let old = scene.digest();
    scene.trigger().await;
    scene.until_count(State::Running, 2).await;

    scene.install("noop");
    let new = scene.swapped(old).await;
    assert_eq!(scene.count(State::Running).await, 2, "they sleep on");
    scene.trigger().await;
    scene.host.settle().await;

    let mut by_version: BTreeMap<Option<String>, Vec<(String, Option<String>)>> = BTreeMap::new();
    for key in ["s-1", "s-2", "s-3", "s-4", "n-1"] {
        let attempts = scene.attempts(key).await;
        assert_eq!(attempts.len(), 1, "{key}: {attempts:?}");
        assert_eq!(attempts[0].verdict, "resolved", "{attempts:?}");
        let of_version = by_version.entry(attempts[0].digest.clone()).or_default();
        of_version.push((key.to_owned(), attempts[0].note.clone()));
    }
    let slept = Some("slept 4000 ms".to_owned());
    let on_old = by_version.remove(&old.map(|digest| digest.to_string())).unwrap();
    assert_eq!(on_old, [("s-1".to_owned(), slept.clone()), ("s-2".to_owned(), slept)]);
    let on_new = by_version.remove(&Some(new.to_string())).unwrap();
    assert_eq!(on_new, ["s-3", "s-4", "n-1"].map(|key| (key.to_owned(), None)));
    scene.host.app.stop().await;
}

async fn without_its_file_a_job_waits_and_loses_nothing(kind: Kind) {
    let config = BTreeMap::from([("count".to_owned(), "6".to_owned()), ("ms".to_owned(), "700".to_owned())]);
    let mut scene = scene(
        kind,
        "sleeper",
        JobSpec { config, flow: Flow { concurrency: 2, ..Flow::default() }, ..job("gone") },
    )
    .await;
    scene.trigger().await;
    scene.until_count(State::Running, 2).await;
    fs::remove_file(scene.file()).unwrap();
    let job = scene.job.clone();
    let blocked = |host: &Host| matches!(host.app.engine.readiness(&job), Readiness::Blocked(_));
    scene.host.until("the job is blocked", blocked).await;
    scene.until_count(State::Running, 0).await;
    let resolved = scene.count(State::Resolved).await;
    assert!((2..6).contains(&resolved), "what ran has ended, the others wait: {resolved} resolved");
    assert_eq!(scene.count(State::Scheduled).await, 6 - resolved);

    let jobs = http::get(scene.host.app.address, "/api/v1/jobs").await.json();
    let expected = format!("plugin gone is not in {}", scene.host.plugins.display());
    assert_eq!(jobs["jobs"][0]["blocked"], expected);
    assert_eq!(jobs["jobs"][0]["digest"], serde_json::Value::Null);
    let told = scene.told().await;
    assert_eq!(told["plugins"][0]["state"], "retired");
    // A run that is started now waits as well.
    scene.trigger().await;

    scene.install("sleeper");
    scene.swapped(None).await;
    scene.host.settle().await;
    assert_eq!(scene.count(State::Resolved).await, 6);
    for n in 1..=6 {
        let attempts = scene.attempts(&format!("s-{n}")).await;
        assert!(attempts.iter().all(|attempt| attempt.verdict == "resolved"), "{attempts:?}");
    }
    let runs = scene.host.app.store.runs().list(None, 10).await.unwrap();
    assert_eq!(runs.iter().map(|run| run.state.as_str()).collect::<Vec<_>>(), ["finished", "finished"]);
    scene.host.app.stop().await;
}

async fn run_to_its_end(engine: &Engine, store: &Store, job: &JobSpec) {
    let mut feed = engine.feed();
    engine.trigger(&job.name, None, "test").await.unwrap();
    // An earlier run may have queued the items that this run found.
    let open = async || {
        let runs = store.runs().list(Some(job.name.as_str()), 10).await.unwrap();
        runs.iter().any(|run| run.state != "finished")
    };
    let finished = async {
        while open().await {
            let _ = tokio::time::timeout(Duration::from_millis(20), feed.recv()).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), finished).await.expect("the run finishes");
}

fn is_active(version: &PluginVersion) -> bool {
    version.state == VersionState::Active
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_file_changes_only_the_reported_status() {
    needs!(Product);
    let mut scene = versioned().await;
    let good = scene.digest();
    let whole = fs::read(plugins::file("versioned-b")).unwrap();
    let fixture = |name: &str| fs::read(plugins::file(name)).unwrap();
    let bad: [(Vec<u8>, &str); 9] = [
        (whole[..whole.len() / 2].to_vec(), "it is not a valid component: "),
        (
            b"name = \"versioned\"\n".to_vec(),
            "it is not a WebAssembly component: its first 8 bytes are wrong",
        ),
        (Vec::new(), "it is not a WebAssembly component: its first 8 bytes are wrong"),
        (b"\x7fELF\x02\x01\x01\0 a .cwasm is one".to_vec(), "it is not a WebAssembly component"),
        (b"\0asm\x01\0\0\0".to_vec(), "it is a core module, not a component: build it for wasm32-wasip2"),
        (fixture("wrong-world"), "it does not export tidemill:job/job@0.1"),
        (fixture("over-asking"), "datasource \"secrets-db\" is not granted"),
        (fixture("bad-describe"), "describe() did not answer with a valid document"),
        (fixture("loop-in-describe"), "describe() failed: cpu-limit: "),
    ];
    for (bytes, among) in bad {
        scene.replace(&bytes);
        let reason = scene.refusal(among).await;
        assert_eq!(scene.digest(), good, "{among}");
        assert_eq!(scene.note().await, "a", "{among}");
        let told = scene.told().await;
        assert_eq!(told["plugins"][0]["state"], "rejected");
        assert_eq!(told["plugins"][0]["reason"], reason);
        let active = told["plugins"].as_array().unwrap().iter().find(|version| version["state"] == "active");
        assert_eq!(active.unwrap()["digest"], good.unwrap().to_string());
    }
    scene.install("versioned-a");
    scene.install("versioned-b");
    scene.swapped(good).await;
    assert_eq!(scene.note().await, "b");
    scene.install("versioned-a");
    assert_eq!(scene.swapped(scene.digest()).await, good.unwrap());
    assert_eq!(scene.note().await, "a");
    scene.host.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_file_changes_only_the_reported_status() {
    needs!(Product);
    let mut scene = versioned().await;
    let good = scene.digest();
    let outside = scene.databases.dir.path().join("outside.wasm");
    fs::copy(plugins::file("versioned-b"), &outside).unwrap();
    let pipe = scene.databases.dir.path().join("pipe.wasm");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let folder = scene.databases.dir.path().join("folder.wasm");
    fs::create_dir(&folder).unwrap();
    let link = scene.databases.dir.path().join("link.wasm");
    symlink(&outside, &link).unwrap();
    let broken = scene.databases.dir.path().join("broken.wasm");
    symlink("nowhere.wasm", &broken).unwrap();
    let bad = [
        (pipe, "it is not a regular file"),
        (link, "it is a link that leaves the plugins folder"),
        (broken, "it cannot be read: "),
        (folder.clone(), "it is not a regular file"),
    ];
    for (path, among) in bad {
        if path == folder {
            // A folder cannot replace a file by rename.
            fs::remove_file(scene.file()).unwrap();
        }
        fs::rename(&path, scene.file()).unwrap();
        let wait = async {
            while !scene.told().await["skipped"].to_string().contains(among) {
                scene.host.something().await;
            }
        };
        let waited = tokio::time::timeout(SOON, wait).await;
        assert!(waited.is_ok(), "{among} is not reported in {}", scene.told().await);
        let told = scene.told().await;
        assert_eq!(told["skipped"][0]["file"], "versioned.wasm");
        assert_eq!(told["skipped"].as_array().unwrap().len(), 1);
        if path != folder {
            assert_eq!(scene.digest(), good, "{among}");
            assert_eq!(scene.note().await, "a", "{among}");
        }
    }
    fs::remove_dir(scene.file()).unwrap();
    scene.install("versioned-b");
    scene.swapped(good).await;
    assert_eq!(scene.note().await, "b");
    assert_eq!(
        scene.told().await["skipped"],
        serde_json::Value::Null,
        "a solved problem is no longer reported"
    );
    scene.host.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_still_being_written_does_not_run() {
    needs!(Product);
    let mut scene = versioned().await;
    let good = scene.digest();
    let whole = fs::read(plugins::file("versioned-b")).unwrap();
    let mut file = fs::File::create(scene.file()).unwrap();
    let steps: Vec<&[u8]> = whole.chunks(whole.len() / 8 + 1).collect();
    for (at, step) in steps.iter().enumerate() {
        file.write_all(step).unwrap();
        file.flush().unwrap();
        if at + 1 < steps.len() {
            // tidy: sleep because a copy over a slow network pauses, and the host scans in between
            tokio::time::sleep(Duration::from_millis(150)).await;
            assert_eq!(scene.digest(), good, "step {at}");
        }
        if at == steps.len() / 2 {
            assert_eq!(scene.note().await, "a");
        }
    }
    drop(file);
    scene.swapped(good).await;
    assert_eq!(scene.note().await, "b");
    scene.host.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_renames_in_a_row_end_on_the_last() {
    needs!(Product);
    let mut scene = versioned().await;
    let a = scene.digest();
    for n in 0..50 {
        scene.install(["versioned-a", "versioned-b"][n % 2]);
        tokio::task::yield_now().await;
    }
    assert_eq!(scene.note_at_rest(a).await, "b");
    assert_eq!(scene.host.app.sandbox.versions().iter().filter(|version| is_active(version)).count(), 1);
    scene.host.app.stop().await;
}
