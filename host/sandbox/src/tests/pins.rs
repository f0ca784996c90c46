//! Versions that a person pinned, whatever the folder contains.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use domain::id::{Digest, PluginName};
use domain::outcome::Outcome;

use super::{Bench, job};
use crate::{Answer, Decided, PluginFile, Proposal, ScanReport, Standing, Versions};

/// Stored versions in memory; the real store is a table.
#[derive(Default)]
struct Kept(Mutex<BTreeMap<Digest, PluginFile>>);

#[async_trait]
impl Versions for Kept {
    async fn keep(&self, file: &PluginFile) {
        self.0.lock().unwrap().insert(file.digest, file.clone());
    }

    async fn kept(&self, _plugin: &PluginName, digest: Digest) -> Result<PluginFile, String> {
        self.0.lock().unwrap().get(&digest).cloned().ok_or_else(|| "it is not kept".to_owned())
    }

    async fn propose(&self, _: Proposal<'_>) -> Result<Answer, String> {
        Ok(Answer::Run)
    }
}

struct Scene {
    bench: Bench,
    kept: Arc<Kept>,
    wanted: BTreeMap<PluginName, Digest>,
}

impl Scene {
    async fn new() -> Scene {
        let bench = Bench::with_jobs(&[], vec![job("versioned")]).await;
        bench.drop_in("versioned-a", "versioned");
        Scene { bench, kept: Arc::default(), wanted: BTreeMap::new() }
    }

    async fn rescan(&self) -> ScanReport {
        let pinned = |(plugin, digest): (&PluginName, &Digest)| {
            let standing = Standing { stable: Some(*digest), pinned: true, ..Standing::default() };
            (plugin.clone(), standing)
        };
        let plugins = self.wanted.iter().map(pinned).collect();
        let decided = Decided { plugins, versions: Some(self.kept.clone()), shared: false };
        self.bench.sandbox.rescan(&self.bench.jobs, &decided).await
    }

    fn pin(&mut self, digest: Option<Digest>) {
        let plugin: PluginName = "versioned".parse().unwrap();
        match digest {
            Some(digest) => drop(self.wanted.insert(plugin, digest)),
            None => self.wanted.clear(),
        }
    }

    async fn runs(&self) -> String {
        match self.bench.process("versioned", "").await.result {
            Ok(Outcome::Resolved { note: Some(note) }) => note,
            other => format!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_pinned_version_runs_whatever_the_folder_holds() {
    let mut scene = Scene::new().await;
    let a = scene.rescan().await.activated[0].digest;
    scene.pin(Some(a));
    scene.bench.drop_in("versioned-b", "versioned");
    assert_eq!(scene.rescan().await.activated, []);
    assert_eq!(scene.runs().await, "a");
    // Neither an empty folder nor a restart with one changes it.
    fs::remove_file(scene.bench.path("versioned")).unwrap();
    assert_eq!(scene.rescan().await.retired, []);
    assert_eq!(scene.runs().await, "a");

    scene.bench.drop_in("versioned-b", "versioned");
    scene.pin(None);
    let report = scene.rescan().await;
    assert_eq!((report.activated[0].version.as_str(), report.retired[0].digest), ("b", a));
    assert_eq!(scene.runs().await, "b");
    scene.pin(Some(a));
    scene.rescan().await;
    assert_eq!(scene.runs().await, "a");
}

#[tokio::test]
async fn a_host_without_the_file_runs_what_is_pinned() {
    let scene = Scene::new().await;
    let a = scene.rescan().await.activated[0].digest;
    let empty = Bench::with_jobs(&[], vec![job("versioned")]).await;
    let mut other = Scene { bench: empty, kept: scene.kept.clone(), wanted: BTreeMap::new() };
    other.pin(Some(a));
    assert_eq!(other.rescan().await.activated.len(), 1);
    assert_eq!(other.runs().await, "a");
    other.pin(None);
    assert_eq!(other.rescan().await.retired.len(), 1);
}

#[tokio::test]
async fn what_is_not_kept_changes_nothing() {
    let mut scene = Scene::new().await;
    scene.rescan().await;
    scene.pin(Some(Digest([9; 32])));
    let report = scene.rescan().await;
    assert_eq!(report.trouble.skipped[0].reason, "it is not kept");
    assert_eq!(scene.runs().await, "a");
}
