//! Only the host's user can read payloads and token hashes, whatever the umask. They are in the data folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use test_support::needs;

use super::{Folder, run};
use crate::support::plugins;
use crate::support::process::Process;
use crate::support::site::eventually;

const NOOP: &str = "[jobs.noop]\nplugin = \"noop\"\n";
/// Creates a folder of archives as well.
const ARCHIVED: &str = "[audit]\nretention = \"100ms\"\nevery = \"100ms\"\n[jobs.noop]\nplugin = \"noop\"\n";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The folder and all paths below it.
fn tree(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut paths = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { paths.extend(tree(&path)) } else { paths.push(path) }
    }
    paths
}

/// Files may disappear during the check: a log of SQLite, a draft.
fn others_may_read(folder: &Path) -> Vec<String> {
    let open = |path: &std::path::PathBuf| {
        let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
        let wanted = if path.is_dir() { 0o700 } else { 0o600 };
        (mode != wanted).then(|| format!("{mode:04o} {}", path.display()))
    };
    tree(folder).iter().filter_map(open).collect()
}

#[tokio::test]
async fn files_of_the_host_are_private() {
    needs!(Product);
    for umask in ["000", "022", "077"] {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("site"), ARCHIVED);
        plugins::install(&folder.path("plugins"), "noop", "noop");
        let wrapper = ["sh", "-c", "umask $0; exec \"$@\"", umask].map(str::to_owned);
        let mut host = Process::spawn_by(&wrapper, &folder.path("tidemill.toml"), folder.address);
        host.ready().await;
        let data = folder.path("data");
        let archived = || async {
            let files = tree(&data);
            let has = |end: &str| files.iter().any(|file| file.to_str().unwrap().ends_with(end));
            [".jsonl.gz", "-wal", "-shm", ".host-lock", "host-id", "compiled.key"]
                .iter()
                .all(|end| has(end))
                .then_some(())
        };
        eventually("all files are there", archived).await;
        assert_eq!(others_may_read(&data), [""; 0], "umask {umask}");
        host.terminate().await;
        assert_eq!(others_may_read(&data), [""; 0], "umask {umask}, after the end");
    }
}

#[tokio::test]
async fn permissions_of_others_are_removed_at_the_start() {
    needs!(Product);
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path().join("site"), ARCHIVED);
    let host = folder.serve().await;
    let data = folder.path("data");
    let archived = || async { data.join("audit-archive").is_dir().then_some(()) };
    eventually("an archive", archived).await;
    host.kill9().await;
    for path in tree(&data) {
        set_mode(&path, if path.is_dir() { 0o755 } else { 0o644 });
    }
    let host = folder.serve().await;
    let corrected = || async { others_may_read(&data).is_empty().then_some(()) };
    eventually("the permissions are corrected", corrected).await;
    host.terminate().await;
    let log = fs::read_to_string(folder.path("tidemill.log")).unwrap();
    for name in ["data", "data/tidemill.db", "data/tidemill.db-wal", "data/host-id", "data/audit-archive"] {
        let path = folder.path(name).display().to_string();
        let reported = |line: &&str| line.contains("permissions were corrected") && line.contains(&path);
        assert!(log.lines().any(|line| reported(&line)), "{name} is not in {log}");
    }
    // The correction happens only once.
    let before = log.matches("permissions were corrected").count();
    folder.serve().await.terminate().await;
    let log = fs::read_to_string(folder.path("tidemill.log")).unwrap();
    assert_eq!(log.matches("permissions were corrected").count(), before);
}

#[tokio::test]
async fn a_store_of_its_own_path_is_private_too_and_its_folder_is_left_alone() {
    needs!(Product);
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    set_mode(&elsewhere, 0o755);
    fs::write(elsewhere.join("notes.txt"), "").unwrap();
    set_mode(&elsewhere.join("notes.txt"), 0o644);
    let url = format!("sqlite://{}", elsewhere.join("deep/er/t.db").display());
    let folder = Folder::new(dir.path().join("site"), &format!("store.url = \"{url}\"\n{NOOP}"));
    folder.serve().await.terminate().await;
    assert_eq!(others_may_read(&elsewhere.join("deep")), [""; 0], "made for it");
    assert_eq!(mode(&elsewhere), 0o755);
    assert_eq!(mode(&elsewhere.join("notes.txt")), 0o644);
}

#[tokio::test]
async fn the_default_store_is_in_the_data_folder() {
    needs!(Product);
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path().join("site"), &format!("host.data_dir = \"kept/here\"\n{NOOP}"));
    folder.serve().await.terminate().await;
    assert!(folder.path("kept/here/tidemill.db").is_file());
    assert!(!folder.path("data").exists());
}

#[tokio::test]
async fn a_store_at_the_default_of_earlier_versions_is_not_left_behind() {
    needs!(Product);
    let dir = tempfile::tempdir().unwrap();
    let site = dir.path().join("site");
    let folder = Folder::new(site.clone(), NOOP);
    folder.serve().await.terminate().await;
    let at = |more: &str| Folder::new(site.clone(), &format!("host.data_dir = \"kept\"\n{more}{NOOP}"));

    let folder = at("");
    for command in [["config", "check"], ["token", "list"]] {
        let (code, said) = run(&command, &folder.path).await;
        assert_eq!(code, Some(2), "{said}");
        for part in [
            "store.url: ",
            "site/data/tidemill.db",
            "site/kept",
            "set url = \"sqlite://data/tidemill.db\"",
            "or move the file",
        ] {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
    }
    assert!(!folder.path("kept").exists(), "nothing was touched");

    // The first remedy, then the second.
    at("store.url = \"sqlite://data/tidemill.db\"\n").serve().await.terminate().await;
    fs::rename(site.join("data/tidemill.db"), site.join("kept/tidemill.db")).unwrap();
    at("").serve().await.terminate().await;
}
