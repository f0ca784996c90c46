//! Changes without a notification, or without a visible difference.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, Instant};
use test_support::needs;

use super::{is_active, scene, versioned};
use crate::support::database::Kind;
use crate::support::host::job;
use crate::support::plugins;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_of_the_same_size_and_time_are_found() {
    needs!(Product);
    let mut scene = versioned().await;
    let first = fs::metadata(scene.file()).unwrap();
    for (n, letter) in [(1, "b"), (2, "a"), (3, "b")] {
        let bytes = fs::read(plugins::file(&format!("versioned-{letter}"))).unwrap();
        // Alternately replace the file and overwrite its bytes.
        let to = if n == 2 { scene.file() } else { scene.host.plugins.join(".draft") };
        fs::write(&to, bytes).unwrap();
        File::options().write(true).open(&to).unwrap().set_modified(first.modified().unwrap()).unwrap();
        let old = scene.digest();
        if n != 2 {
            fs::rename(&to, scene.file()).unwrap();
        }
        scene.swapped(old).await;
        assert_eq!(scene.note().await, letter);
        let now = fs::metadata(scene.file()).unwrap();
        assert_eq!((now.size(), now.mtime_nsec()), (first.size(), first.mtime_nsec()), "they look the same");
    }
    scene.host.app.stop().await;
}

/// The target of a link changes without an event in the folder itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_without_a_notification_is_found_by_the_periodic_scan() {
    needs!(Product);
    let mut scene = scene(Kind::Sqlite, "", job("versioned")).await;
    let behind = scene.host.plugins.join("behind");
    plugins::install(&behind, "versioned-a", "versioned");
    symlink("behind/versioned.wasm", scene.file()).unwrap();
    let a = scene.swapped(None).await;
    assert_eq!(scene.note().await, "a");
    plugins::install(&behind, "versioned-b", "versioned");
    // The host scans the folder every 30 s, without a notification.
    assert_ne!(scene.swapped(Some(a)).await, a);
    assert_eq!(scene.note().await, "b");
    scene.host.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_come_and_go_end_as_the_last_one() {
    needs!(Product);
    let mut scene = versioned().await;
    let a = scene.digest();
    for n in 0..100 {
        fs::remove_file(scene.file()).unwrap();
        // tidy: sleep because the host has to be able to find the file missing, at times
        tokio::time::sleep(Duration::from_millis(n % 20)).await;
        scene.install(["versioned-a", "versioned-b"][n as usize % 2]);
    }
    assert_eq!(scene.note_at_rest(a).await, "b");
    let attempts = scene.attempts("run").await;
    assert!(attempts.iter().all(|attempt| attempt.verdict == "resolved"), "{attempts:?}");
    scene.host.app.stop().await;
}

/// A hundred renames a second, for longer than the host waits for a folder to settle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_renames_cost_no_attempt_and_end_on_the_last() {
    needs!(Product);
    let mut scene = versioned().await;
    let a = scene.digest();
    let began = Instant::now();
    let mut storm = tokio::time::interval(Duration::from_millis(10));
    for n in 0..300 {
        storm.tick().await;
        scene.install(["versioned-a", "versioned-b"][n % 2]);
        if n % 30 == 0 {
            scene.attempt().await;
        }
    }
    let stormed = began.elapsed();
    eprintln!("300 renames in {stormed:?}");
    assert_eq!(scene.note_at_rest(a).await, "b");
    assert_eq!(scene.host.app.sandbox.versions().iter().filter(|version| is_active(version)).count(), 1);
    scene.host.app.stop().await;
}
