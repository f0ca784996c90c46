//! The path of an SQLite database is taken literally, and all names of a file are recognized as the same
//! file.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use domain::address::split_file;
use domain::scope::ScopeError;
use test_support::{Kind, run};

use super::support::{SHOP, T, config};
use crate::opening::sqlite_file::SqliteFile;
use crate::store::hide_password;
use crate::{Store, StoreError};

#[test]
fn paths_are_taken_as_they_are_written() {
    for (url, path, parameters) in [
        ("sqlite:///x/p%20q/a.db", "/x/p%20q/a.db", ""),
        ("sqlite:/x/%2e%2E/a%3Fb%23.db?mode=ro", "/x/%2e%2E/a%3Fb%23.db", "mode=ro"),
        ("sqlite:///x/p?q/a.db", "/x/p?q/a.db", ""),
        ("sqlite:///x/p?mode=ro/a.db?mode=rw", "/x/p?mode=ro/a.db", "mode=rw"),
        ("sqlite:///x/a?b.db?cache=private&mode=ro", "/x/a?b.db", "cache=private&mode=ro"),
        ("sqlite:///x/a?b.db?", "/x/a?b.db", ""),
        ("sqlite:///x/a#b;c&d+e=f@g:h.db", "/x/a#b;c&d+e=f@g:h.db", ""),
        ("sqlite://sqlite://a.db", "sqlite://a.db", ""),
        ("sqlite://file:a.db", "file:a.db", ""),
        ("sqlite:a.db", "a.db", ""),
    ] {
        assert_eq!(split_file(url), Some((path, parameters)), "{url}");
        let file = SqliteFile::of(url).unwrap().unwrap();
        assert_eq!(file.path(), std::path::absolute(path).unwrap(), "{url}");
        assert_eq!(file.options().unwrap().get_filename(), file.path(), "{url}");
        assert_eq!(SqliteFile::of(&file.url()), Some(Ok(file)), "{url}");
        assert_eq!(hide_password(url), url.strip_suffix('?').unwrap_or(url));
    }
    assert_eq!(split_file("postgres://h/sqlite:"), None);
}

#[test]
fn path_that_is_not_a_file_is_refused() {
    for url in [
        "sqlite:",
        "sqlite://",
        "sqlite::memory:",
        "sqlite://?mode=ro",
        "sqlite://a.db?mode=memory",
        "sqlite://a.db?cache=shared&MODE=Memory",
        "sqlite://a.db?vfs=memdb",
    ] {
        let refused = SqliteFile::of(url).unwrap().unwrap_err();
        assert!(refused.contains("in memory"), "{url}: {refused}");
    }
    let refused = SqliteFile::of("sqlite://a\0b.db").unwrap().unwrap_err();
    assert!(refused.contains("NUL"), "{refused}");
}

#[test]
fn all_names_of_a_file_are_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| SqliteFile::new(&folder.path().join(name), "").unwrap();
    fs::create_dir(folder.path().join("real")).unwrap();
    symlink("real", folder.path().join("linked")).unwrap();
    symlink("real/store.db", folder.path().join("dangling.db")).unwrap();
    assert!(file("real/store.db").is_same(&file("linked/store.db")), "before there is a file");
    assert!(!file("real/store.db").is_same(&file("real/other.db")));

    let real = file("linked/store.db").make().unwrap();
    assert_eq!(real, folder.path().canonicalize().unwrap().join("real/store.db"));
    assert_eq!(file("dangling.db").make().unwrap(), real, "the file that the link names");
    fs::hard_link(&real, folder.path().join("hard.db")).unwrap();
    fs::copy(&real, folder.path().join("copy.db")).unwrap();
    for name in ["linked/store.db", "dangling.db", "hard.db", "real/../real/store.db"] {
        assert!(file(name).is_same(&file("real/store.db")), "{name}");
    }
    assert!(!file("copy.db").is_same(&file("real/store.db")));
}

#[test]
fn paths_that_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"p\xffq"));
    let refused = SqliteFile::new(&odd.join("a.db"), "").unwrap_err();
    assert!(refused.contains("not UTF-8"), "{refused}");
    // Also a folder behind a link.
    fs::create_dir(&odd).unwrap();
    symlink(&odd, folder.path().join("fine")).unwrap();
    let refused = SqliteFile::new(&folder.path().join("fine/a.db"), "").unwrap().make().unwrap_err();
    assert!(refused.contains("not UTF-8"), "{refused}");
}

#[tokio::test]
async fn the_file_that_is_opened_is_the_one_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["p%20q", "a%2Fb", "p?q", "p#q", "p@q:r", "100%", "%"] {
        let url = format!("sqlite://{}/{name}/tidemill.db", folder.path().display());
        Store::open(&config(&url, "sqlite://shop.db")).await.unwrap().close().await;
        assert!(folder.path().join(name).join("tidemill.db").is_file(), "{name}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 7, "and no other folder was made");
}

#[tokio::test]
async fn the_stores_own_file_is_no_datasource_under_any_name() {
    run(Kind::Sqlite, |t: T| async move {
        let store = Path::new(split_file(&t.url).unwrap().0).to_owned();
        let (hard, soft) = (store.with_file_name("hard.db"), store.with_file_name("soft.db"));
        fs::hard_link(&store, &hard).unwrap();
        symlink(&store, &soft).unwrap();
        for name in [&store, &hard, &soft] {
            let url = format!("sqlite://{}?mode=ro", name.display());
            let error = Store::open(&config(&t.url, &url)).await.err().unwrap();
            assert!(matches!(error, StoreError::Unusable(_)), "{error:?}");
            assert!(error.to_string().contains("it is the store's own file"), "{error}");
        }
        // The link is created while the host runs.
        t.store.datasources.get(SHOP).unwrap();
        let shop = Path::new(split_file(&t.shop_url).unwrap().0).to_owned();
        for make in
            [|from: &Path, to: &Path| fs::hard_link(from, to), |from: &Path, to: &Path| symlink(from, to)]
        {
            fs::remove_file(&shop).unwrap();
            make(&store, &shop).unwrap();
            match t.store.datasources.get(SHOP) {
                Err(ScopeError::Denied(why)) => assert!(why.contains("the store's own file"), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}
