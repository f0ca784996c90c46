//! The plugins folder is missing, moved, replaced, or not a folder at all.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use serde_json::Value;
use test_support::needs;

use super::{Scene, scene, versioned};
use crate::support::database::Kind;
use crate::support::host::job;
use crate::support::plugins;

/// The time between two scans of the folder without a notification.
const SCAN_PERIOD: Duration = Duration::from_secs(30);

/// Checks that a swap is found before the next scan that needs no notification.
async fn timed_swap(scene: &mut Scene, letter: &str) {
    let began = Instant::now();
    scene.swapped(scene.digest()).await;
    assert!(began.elapsed() < SCAN_PERIOD, "seen after {:?}", began.elapsed());
    assert_eq!(scene.note().await, letter);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugins_folder_that_appears_later_is_found() {
    needs!(Product);
    let mut scene = scene(Kind::Sqlite, "", job("versioned")).await;
    assert!(!scene.host.plugins.exists());
    assert_eq!(
        scene.blocked().unwrap(),
        format!("plugin versioned is not in {}", scene.host.plugins.display())
    );
    scene.problem("No such file").await;
    scene.trigger().await;
    scene.install("versioned-a");
    timed_swap(&mut scene, "a").await;
    assert_eq!(scene.told().await["problem"], Value::Null);
    scene.install("versioned-b");
    timed_swap(&mut scene, "b").await;
    scene.host.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugins_folder_that_is_replaced_is_followed() {
    needs!(Product);
    let mut scene = versioned().await;
    let (folder, aside) = (scene.host.plugins.clone(), scene.databases.dir.path().join("aside"));
    let next = scene.databases.dir.path().join("next");
    plugins::install(&next, "versioned-b", "versioned");
    fs::rename(&folder, &aside).unwrap();
    fs::rename(&next, &folder).unwrap();
    timed_swap(&mut scene, "b").await;
    // Changes in the new folder are found as well.
    scene.install("versioned-a");
    timed_swap(&mut scene, "a").await;
    scene.host.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_in_place_of_the_plugins_folder_stops_nothing() {
    needs!(Product);
    let mut scene = versioned().await;
    let (folder, aside) = (scene.host.plugins.clone(), scene.databases.dir.path().join("aside"));
    fs::rename(&folder, &aside).unwrap();
    fs::write(&folder, "not a folder").unwrap();
    scene.problem("Not a directory").await;
    assert_eq!(scene.note().await, "a", "the last good version goes on");
    fs::remove_file(&folder).unwrap();
    fs::rename(&aside, &folder).unwrap();
    scene.install("versioned-b");
    timed_swap(&mut scene, "b").await;
    scene.host.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volume_that_swaps_its_link_is_followed() {
    needs!(Product);
    let mut scene = scene(Kind::Sqlite, "", job("versioned")).await;
    let folder = scene.host.plugins.clone();
    plugins::install(&folder.join("..v1"), "versioned-a", "versioned");
    plugins::install(&folder.join("..v2"), "versioned-b", "versioned");
    symlink("..v1", folder.join("..data")).unwrap();
    symlink("..data/versioned.wasm", folder.join("versioned.wasm")).unwrap();
    timed_swap(&mut scene, "a").await;
    symlink("..v2", folder.join("..turning")).unwrap();
    fs::rename(folder.join("..turning"), folder.join("..data")).unwrap();
    timed_swap(&mut scene, "b").await;
    scene.host.app.stop().await;
}
