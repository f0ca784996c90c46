//! Under any of its names, a file is locked only once, and is opened under the configured name.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use test_support::needs;

use super::{Folder, run};

const NOOP: &str = "[jobs.noop]\nplugin = \"noop\"\n";

#[tokio::test]
async fn a_folder_with_signs_of_urls_in_its_name_is_that_folder() {
    needs!(Product);
    let all = tempfile::tempdir().unwrap();
    let names = ["p%20q", "p%2Fq", "p?q", "p#q", "p@q", "%"];
    for name in names {
        let folder = Folder::new(all.path().join(name), NOOP);
        let host = folder.serve().await;
        let data: BTreeSet<_> =
            fs::read_dir(folder.path("data")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        for file in ["tidemill.db", "tidemill.db.host-lock", "host.lock"] {
            assert!(data.contains(OsStr::new(file)), "{name}: {data:?}");
        }
        host.terminate().await;
        let (code, said) = run(&["token", "list"], &folder.path).await;
        assert_eq!(code, Some(0), "{said}");
    }
    let made = fs::read_dir(all.path()).unwrap().count();
    assert_eq!(made, names.len(), "no other folder was made");
}

#[tokio::test]
async fn a_second_host_is_refused_under_every_name_of_the_store() {
    needs!(Product);
    let all = tempfile::tempdir().unwrap();
    let first = Folder::new(all.path().join("p%20q"), NOOP);
    let host = first.serve().await;
    let store = first.path("data/tidemill.db");

    symlink(first.path("data"), all.path().join("linked")).unwrap();
    symlink(&store, all.path().join("soft.db")).unwrap();
    fs::hard_link(&store, all.path().join("hard.db")).unwrap();
    fs::create_dir(all.path().join("p q")).unwrap();
    fs::hard_link(&store, all.path().join("p q/tidemill.db")).unwrap();
    for (n, name) in ["p%20q/data/tidemill.db", "linked/tidemill.db", "soft.db", "hard.db", "p q/tidemill.db"]
        .into_iter()
        .enumerate()
    {
        let more = format!("store.url = \"sqlite://{}\"\n{NOOP}", all.path().join(name).display());
        let second = Folder::new(all.path().join(format!("second-{n}")), &more);
        second.refused(&["another tidemill uses the SQLite store "]).await;
    }
    host.terminate().await;

    // A link may also name a file that does not exist yet.
    symlink(all.path().join("later.db"), all.path().join("dangling.db")).unwrap();
    let at = |name: &str| format!("store.url = \"sqlite://{}\"\n{NOOP}", all.path().join(name).display());
    let third = Folder::new(all.path().join("third"), &at("dangling.db"));
    let host = third.serve().await;
    assert!(all.path().join("later.db.host-lock").is_file(), "beside the file, not beside the link");
    let fourth = Folder::new(all.path().join("fourth"), &at("later.db"));
    fourth.refused(&["another tidemill uses the SQLite store "]).await;
    host.terminate().await;
}

#[tokio::test]
async fn the_check_of_datasources_knows_every_name_of_the_store() {
    needs!(Product);
    let all = tempfile::tempdir().unwrap();
    Folder::new(all.path().join("site"), NOOP).serve().await.terminate().await;
    let store = all.path().join("site/data/tidemill.db");
    symlink(&store, all.path().join("soft.db")).unwrap();
    fs::hard_link(&store, all.path().join("hard.db")).unwrap();
    symlink(all.path().join("site"), all.path().join("linked")).unwrap();
    for name in [
        "site/data/tidemill.db",
        "site/data/../data/tidemill.db",
        "linked/data/tidemill.db",
        "soft.db",
        "hard.db",
    ] {
        let url = format!("sqlite://{}?mode=ro", all.path().join(name).display());
        let folder =
            Folder::new(all.path().join("site"), &format!("[datasources.shop]\nurl = \"{url}\"\n{NOOP}"));
        let (code, said) = run(&["config", "check"], &folder.path).await;
        assert_eq!(code, Some(2), "{name}: {said}");
        assert!(said.contains("this is the store's own file"), "{name}: {said}");
    }
}

#[tokio::test]
async fn a_folder_whose_name_is_no_text_is_refused_for_sqlite() {
    needs!(Product);
    let all = tempfile::tempdir().unwrap();
    let folder = Folder::new(all.path().join(OsStr::from_bytes(b"p\xffq")), NOOP);
    let (code, said) = run(&["config", "check"], &folder.path).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("store.url: the path ") && said.contains("is not UTF-8"), "{said}");
    assert_eq!(fs::read_dir(all.path()).unwrap().count(), 1, "no other folder was made");
}
