//! A host whose store is removed or replaced while it runs acknowledges nothing more, and reports the reason.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use test_support::needs;

use super::{Folder, run};
use crate::support::http;
use crate::support::process::Process;
use crate::support::site::eventually;

const NOOP: &str = "[jobs.noop]\nplugin = \"noop\"\n";

impl Folder {
    /// Submits an item, and returns the status of the answer.
    pub(super) async fn add(&self, key: &str) -> u16 {
        let body = json!({ "key": key }).to_string();
        http::post(self.address, "/api/v1/jobs/noop/items", &body).await.status
    }

    async fn until_ready(&self, status: u16) -> String {
        let look = || async {
            let answer = http::get(self.address, "/readyz").await;
            (answer.status == status).then_some(answer.body)
        };
        eventually(&format!("/readyz says {status}"), look).await
    }
}

/// A host with one item, in its own folder.
async fn host(dir: &Path) -> (Folder, Process) {
    let folder = Folder::new(dir.join("site"), NOOP);
    let host = folder.serve().await;
    assert_eq!(folder.add("before").await, 201);
    (folder, host)
}

fn with_end(path: &Path, end: &str) -> std::path::PathBuf {
    format!("{}{end}", path.display()).into()
}

type Damage = (&'static str, fn(&Path));

/// Ways to damage the store's file.
const DAMAGES: [Damage; 8] = [
    ("removed", |store| fs::remove_file(store).unwrap()),
    ("renamed", |store| fs::rename(store, store.with_extension("old")).unwrap()),
    ("replaced by a copy", |store| {
        fs::copy(store, with_end(store, ".copy")).unwrap();
        fs::rename(with_end(store, ".copy"), store).unwrap();
    }),
    ("replaced by an empty file", |store| {
        fs::remove_file(store).unwrap();
        fs::write(store, "").unwrap();
    }),
    ("replaced by a link to a copy", |store| {
        fs::copy(store, with_end(store, ".copy")).unwrap();
        fs::remove_file(store).unwrap();
        symlink(with_end(store, ".copy"), store).unwrap();
    }),
    ("without its log", |store| fs::remove_file(with_end(store, "-wal")).unwrap()),
    ("without the index of its log", |store| fs::remove_file(with_end(store, "-shm")).unwrap()),
    ("in a folder that was renamed", |store| {
        let folder = store.parent().unwrap();
        fs::rename(folder, folder.with_extension("old")).unwrap();
    }),
];

#[tokio::test]
async fn nothing_is_acknowledged_once_the_file_is_gone() {
    needs!(Product);
    for (damage, harm) in DAMAGES {
        let dir = tempfile::tempdir().unwrap();
        let (folder, host) = host(dir.path()).await;
        harm(&folder.path("data/tidemill.db"));
        for n in 0..3 {
            assert_eq!(folder.add(&format!("after-{n}")).await, 503, "{damage}");
        }
        let said = folder.until_ready(503).await;
        let named = folder.path("data/tidemill.db").display().to_string();
        assert!(said.contains("the store's file") && said.contains(&named), "{damage}: {said}");
        assert_eq!(http::get(folder.address, "/healthz").await.status, 200, "{damage}");
        assert_eq!(http::get(folder.address, "/api/v1/items").await.status, 503, "{damage}");
        let server = format!("http://{}", folder.address);
        let (code, said) = run(&["doctor", "--server", &server], &folder.path).await;
        assert!(code == Some(1) && said.contains("the store's file"), "{damage}: {said}");
        host.kill9().await;
        let log = fs::read_to_string(folder.path("tidemill.log")).unwrap();
        assert!(log.contains("the store's file"), "{damage}: {log}");
    }
}

#[tokio::test]
async fn same_file_can_be_put_back() {
    needs!(Product);
    let dir = tempfile::tempdir().unwrap();
    let (folder, host) = host(dir.path()).await;
    let store = folder.path("data/tidemill.db");
    fs::rename(&store, store.with_extension("away")).unwrap();
    folder.until_ready(503).await;
    assert_eq!(folder.add("while").await, 503);
    fs::rename(store.with_extension("away"), &store).unwrap();
    folder.until_ready(200).await;
    assert_eq!(folder.add("after").await, 201);
    host.terminate().await;

    let host = folder.serve().await;
    for key in ["before", "after"] {
        assert_eq!(
            http::get(folder.address, &format!("/api/v1/items/noop/{key}")).await.status,
            200,
            "{key}"
        );
    }
    host.terminate().await;
}

/// When SQLite closes a database, it removes the log at the database's path. Here that log belongs to another
/// database.
#[tokio::test]
async fn host_whose_file_is_gone_leaves_files_of_others_alone() {
    needs!(Product);
    let dir = tempfile::tempdir().unwrap();
    let (folder, host) = host(dir.path()).await;
    let store = folder.path("data/tidemill.db");
    for end in ["", "-wal", "-shm"] {
        fs::rename(with_end(&store, end), with_end(&store, &format!("{end}.old"))).unwrap();
        fs::write(with_end(&store, end), format!("somebody else's{end}")).unwrap();
    }
    folder.until_ready(503).await;
    host.terminate().await;
    for end in ["", "-wal", "-shm"] {
        let now = fs::read_to_string(with_end(&store, end)).unwrap();
        assert_eq!(now, format!("somebody else's{end}"));
    }
    // No acknowledged item is lost.
    for end in ["", "-wal", "-shm"] {
        fs::rename(with_end(&store, &format!("{end}.old")), with_end(&store, end)).unwrap();
    }
    let host = folder.serve().await;
    assert_eq!(http::get(folder.address, "/api/v1/items/noop/before").await.status, 200);
    host.terminate().await;
}
