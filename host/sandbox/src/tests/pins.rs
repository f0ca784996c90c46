//! Versions that are not in the folder: loaded from a kept file, and activated.

use domain::id::PluginName;
use domain::release::plan::{Change, Load};
use test_support::needs;

use super::{Bench, guest_path, job};
use crate::{PluginFile, ScanReport};

fn plugin() -> PluginName {
    "versioned".parse().unwrap()
}

fn kept(guest: &str) -> PluginFile {
    PluginFile::of(plugin(), std::fs::read(guest_path(guest)).unwrap(), None)
}

/// Activates a kept version, as if it were pinned.
async fn pin(bench: &Bench, file: PluginFile) -> ScanReport {
    let mut scan = bench.sandbox.scan(&bench.jobs, None).await.unwrap();
    let digest = file.digest;
    if !scan.knows(&plugin(), digest) {
        assert_eq!(scan.load(file).await.load, Load::Done(digest));
    }
    assert_eq!(scan.check(&plugin(), digest).await, Ok(()));
    scan.apply(&plugin(), Change::Activate(digest));
    scan.end()
}

#[tokio::test]
async fn a_pinned_version_runs_whatever_the_folder_holds() {
    needs!(Plugins);
    let bench = Bench::with_jobs(&[], vec![job("versioned")]).await;
    bench.drop_in("versioned-b", "versioned");
    let b = bench.rescan().await.activated[0].digest;
    let a = kept("versioned-a");
    let report = pin(&bench, a.clone()).await;
    assert_eq!((report.activated[0].version.as_str(), report.retired[0].digest), ("a", b));
    assert_eq!(bench.digest("versioned"), Some(a.digest));
    let again = pin(&bench, a.clone()).await;
    assert_eq!((again.activated.len(), again.retired.len(), again.unchanged), (0, 0, 1));
    let report = bench.rescan().await;
    assert_eq!((report.activated[0].version.as_str(), report.retired[0].digest), ("b", a.digest));
}

#[tokio::test]
async fn host_without_the_file_runs_the_pinned_version() {
    needs!(Plugins);
    let bench = Bench::with_jobs(&[], vec![job("versioned")]).await;
    assert_eq!(pin(&bench, kept("versioned-a")).await.activated.len(), 1);
    assert!(bench.digest("versioned").is_some());
    assert_eq!(bench.rescan().await.retired.len(), 1);
    assert_eq!(bench.digest("versioned"), None);
}

#[tokio::test]
async fn a_kept_file_is_new_until_it_is_loaded() {
    needs!(Plugins);
    let bench = Bench::with_jobs(&[], vec![job("versioned")]).await;
    let a = kept("versioned-a");
    let mut scan = bench.sandbox.scan(&bench.jobs, None).await.unwrap();
    assert!(!scan.knows(&plugin(), a.digest));
    let new = scan.load(a.clone()).await.new.unwrap();
    assert_eq!(new.digest, a.digest);
    scan.apply(&plugin(), Change::Activate(a.digest));
    scan.end();
    let mut scan = bench.sandbox.scan(&bench.jobs, None).await.unwrap();
    assert!(scan.knows(&plugin(), a.digest));
    assert!(scan.load(a).await.new.is_none());
}

#[tokio::test]
async fn pin_of_an_unknown_version_changes_nothing() {
    needs!(Plugins);
    let bench = Bench::with_jobs(&[], vec![job("versioned")]).await;
    bench.drop_in("versioned-a", "versioned");
    let a = bench.rescan().await.activated[0].digest;
    let mut scan = bench.sandbox.scan(&bench.jobs, None).await.unwrap();
    scan.apply(&plugin(), Change::Block("it is not kept".to_owned()));
    assert_eq!(scan.end().trouble.skipped[0].reason, "it is not kept");
    assert_eq!(bench.digest("versioned"), Some(a));
}
