use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use async_trait::async_trait;
use domain::clock::Clock;
use domain::failure::Failure;
use domain::job::{Access, Capability};
use domain::outcome::Outcome;
use domain::plugin::{Statement, VersionState};
use domain::runner::{Readiness, Runner};
use test_support::needs;

use super::{Bench, Gate, guest_path, job, witness};
use crate::versions::component::StatementCheck;
use crate::{Sandbox, SandboxConfig};

const RELOADS: usize = 200;

/// `versioned-a`, installed under the name that both versions share.
async fn versioned() -> Bench {
    let bench = Bench::with_jobs(&[], vec![job("versioned")]).await;
    bench.drop_in("versioned-a", "versioned");
    assert_eq!(bench.rescan().await.activated.len(), 1);
    bench
}

async fn note(bench: &Bench) -> String {
    match bench.process("versioned", "").await.result {
        Ok(Outcome::Resolved { note: Some(note) }) => note,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_changed_file_takes_over_and_an_unchanged_one_does_nothing() {
    needs!(Plugins);
    let bench = versioned().await;
    let a = bench.digest("versioned");
    assert_eq!(note(&bench).await, "a");
    let again = bench.rescan().await;
    assert_eq!((again.activated.len(), again.unchanged), (0, 1));

    bench.drop_in("versioned-b", "versioned");
    let report = bench.rescan().await;
    assert_eq!(report.activated[0].version, "b");
    assert_eq!(report.retired[0].version, "a");
    assert_eq!(note(&bench).await, "b");
    assert_ne!(bench.digest("versioned"), a);
    let states = bench.sandbox.versions().into_iter().map(|version| version.state);
    assert_eq!(states.collect::<Vec<_>>(), [VersionState::Active, VersionState::Retired]);
}

#[tokio::test]
async fn a_running_attempt_finishes_on_its_version() {
    needs!(Plugins);
    let bench = Bench::with_jobs(&["witness"], vec![witness()]).await;
    let old = bench.digest("witness");
    let gate = Arc::new(Gate::default());
    *bench.scope.gate.lock().unwrap() = Some(gate.clone());
    let swap = async {
        gate.arrived.notified().await;
        bench.drop_in("noop", "witness");
        assert_eq!(bench.rescan().await.activated.len(), 1);
        assert_ne!(bench.digest("witness"), old);
        gate.open.notify_one();
    };
    let (running, ()) = tokio::join!(bench.process("witness", ""), swap);
    assert_eq!(running.digest, old);
    assert_eq!(running.result, Ok(Outcome::Resolved { note: Some("inserted 1".to_owned()) }));
    assert_eq!(bench.process("witness", "").await.digest, bench.digest("witness"));
}

#[tokio::test]
async fn a_bad_file_changes_nothing_but_its_status() {
    needs!(Plugins);
    let bench = versioned().await;
    let good = bench.digest("versioned");
    let whole = fs::read(guest_path("versioned-b")).unwrap();
    let core_module = b"\0asm\x01\0\0\0".to_vec();
    let bad: [(Vec<u8>, &str); 8] = [
        (whole[..whole.len() / 2].to_vec(), "not a valid component"),
        (Vec::new(), "not a WebAssembly component"),
        (b"(component)".to_vec(), "not a WebAssembly component"),
        (b"\x7fELF\x02\x01\x01\0 compiled code".to_vec(), "not a WebAssembly component"),
        (core_module, "a core module, not a component"),
        (fs::read(guest_path("wrong-world")).unwrap(), "does not export"),
        (fs::read(guest_path("over-asking")).unwrap(), "is not granted"),
        (fs::read(guest_path("bad-describe")).unwrap(), "describe() did not answer"),
    ];
    for (bytes, why) in bad {
        fs::write(bench.path("versioned"), bytes).unwrap();
        let report = bench.rescan().await;
        let VersionState::Rejected(reason) = &report.rejected[0].state else {
            panic!("{report:?}");
        };
        assert!(reason.contains(why), "{reason}");
        assert_eq!(bench.digest("versioned"), good);
        assert_eq!(note(&bench).await, "a");
        // Reported once, not at every scan.
        assert_eq!(bench.rescan().await.rejected, []);
    }
    bench.drop_in("versioned-b", "versioned");
    assert_eq!(bench.rescan().await.activated.len(), 1);
    assert_eq!(note(&bench).await, "b");
}

#[tokio::test]
async fn a_removed_file_retires_its_plugin() {
    needs!(Plugins);
    let bench = versioned().await;
    fs::remove_file(bench.path("versioned")).unwrap();
    assert_eq!(bench.rescan().await.retired.len(), 1);
    let readiness = bench.sandbox.readiness(&job("versioned"));
    let Readiness::Blocked(why) = readiness else { panic!("{readiness:?}") };
    assert!(why.starts_with("plugin versioned is not in "), "{why}");
    let report = bench.process("versioned", "").await;
    // Neither counted nor limited: the guest was not called.
    assert!(matches!(report.result, Err(Failure::Postponed { .. })), "{:?}", report.result);
    assert_eq!(report.digest, None);

    bench.drop_in("versioned-a", "versioned");
    assert_eq!(bench.rescan().await.activated.len(), 1);
    assert_eq!(note(&bench).await, "a");
}

#[tokio::test]
async fn grants_are_checked_again_when_the_jobs_change() {
    needs!(Plugins);
    let mut bench = Bench::with(&["over-asking"]).await;
    assert_eq!(bench.digest("over-asking"), None);
    let mut granted = job("over-asking");
    granted.grants.datasources.insert("secrets-db".to_owned(), Access::ReadWrite);
    granted.grants.capabilities.insert(Capability::KeyValue);
    bench.jobs = vec![Arc::new(granted.clone())];
    assert_eq!(bench.rescan().await.activated.len(), 1);

    // A second job of the same plugin is checked as well.
    let second = domain::job::JobSpec { name: "second".parse().unwrap(), ..job("over-asking") };
    bench.jobs = vec![Arc::new(granted.clone()), Arc::new(second)];
    assert_eq!(bench.rescan().await.rejected.len(), 1);
    let Readiness::Blocked(why) = bench.sandbox.readiness(&granted) else { panic!() };
    assert!(why.contains("rejected: job second: "), "{why}");
}

#[tokio::test]
async fn only_regular_files_inside_the_folder_are_read() {
    needs!(Plugins);
    let mut bench = Bench::with_jobs(&[], vec![]).await;
    let dir = bench.dir.path().to_owned();
    symlink(guest_path("noop"), dir.join("outside.wasm")).unwrap();
    fs::create_dir(dir.join("..data")).unwrap();
    fs::copy(guest_path("noop"), dir.join("..data/noop.wasm")).unwrap();
    symlink("..data/noop.wasm", dir.join("inside.wasm")).unwrap();
    fs::create_dir(dir.join("folder.wasm")).unwrap();
    fs::write(dir.join("Bad Name.wasm"), "x").unwrap();
    fs::write(dir.join(".draft.wasm"), "x").unwrap();
    fs::write(dir.join("large.wasm"), vec![0; (32 << 20) + 1]).unwrap();
    fs::write(dir.join("notes.txt"), "x").unwrap();
    bench.jobs = vec![Arc::new(job("inside"))];
    let report = bench.rescan().await;
    let activated = report.activated.iter().map(|version| version.plugin.as_str());
    assert_eq!(activated.collect::<Vec<_>>(), ["inside"]);
    let skipped = report.trouble.skipped.iter().map(|s| (s.file.as_str(), &s.reason[..16]));
    let expected = [
        ("Bad Name.wasm", "its name is not "),
        ("folder.wasm", "it is not a regu"),
        ("outside.wasm", "it is a link tha"),
    ];
    assert_eq!(skipped.collect::<Vec<_>>(), expected);
    assert_eq!(report.rejected[0].plugin.as_str(), "large");
}

#[tokio::test]
async fn missing_folder_stops_nothing() {
    needs!(Plugins);
    let bench = versioned().await;
    let aside = bench.dir.path().with_extension("aside");
    fs::rename(bench.dir.path(), &aside).unwrap();
    let problem = bench.rescan().await.trouble.problem.unwrap();
    assert!(problem.starts_with("cannot read the plugins folder"), "{problem}");
    assert_eq!(note(&bench).await, "a");
    fs::rename(&aside, bench.dir.path()).unwrap();
    assert_eq!(bench.rescan().await.trouble.problem, None);
}

struct Refusing;

#[async_trait]
impl StatementCheck for Refusing {
    async fn check(&self, statement: &Statement) -> Result<(), String> {
        Err(format!("datasource {:?}: no such table: witness", statement.datasource))
    }
}

#[tokio::test]
async fn a_statement_that_its_database_refuses_keeps_the_version_out() {
    needs!(Plugins);
    let dir = tempfile::tempdir().unwrap();
    fs::copy(guest_path("witness"), dir.path().join("witness.wasm")).unwrap();
    let config = SandboxConfig::new(dir.path(), Clock::steady());
    let sandbox = Sandbox::new(config, Some(Arc::new(Refusing))).unwrap();
    let report = sandbox.rescan(&[Arc::new(witness())]).await;
    let VersionState::Rejected(reason) = &report.rejected[0].state else { panic!("{report:?}") };
    let expected = "statement \"insert\": datasource \"witness\": no such table: witness";
    assert_eq!(reason, expected);
}

#[tokio::test]
async fn many_reloads_do_no_harm() {
    needs!(Plugins);
    let bench = versioned().await;
    for n in 0..RELOADS {
        let (guest, letter) = [("versioned-b", "b"), ("versioned-a", "a")][n % 2];
        bench.drop_in(guest, "versioned");
        assert_eq!(bench.rescan().await.activated.len(), 1, "reload {n}");
        assert_eq!(note(&bench).await, letter, "reload {n}");
    }
    assert_eq!(bench.sandbox.versions().len(), 2);
}

#[tokio::test]
async fn pool_that_does_not_fit_is_reduced() {
    needs!(Plugins);
    let mut bench = Bench::with(&["noop"]).await;
    assert_eq!(bench.sandbox.calls_max(), 256);
    // More address space than the machine has.
    let config =
        SandboxConfig { attempts_max: 4_000_000, ..SandboxConfig::new(bench.dir.path(), Clock::steady()) };
    bench.sandbox = Sandbox::new(config, None).unwrap();
    assert!((4..4_000_000).contains(&bench.sandbox.calls_max()), "{}", bench.sandbox.calls_max());
    bench.rescan().await;
    bench.still_works().await;
}
