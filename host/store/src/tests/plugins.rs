//! Files of plugin versions, and pins.

use domain::id::{Digest, PluginName};
use domain::plugin::{Asks, PluginVersion, VersionState};
use expect_test::expect;
use test_support::on_both;

use super::support::{T, at, host};
use crate::StoreError;
use crate::plugins::{FILES_KEPT, KeptFile};

on_both! {
    a_version_is_kept_and_known,
    only_stored_versions_can_be_pinned,
    old_versions_are_removed_unless_active_or_pinned,
}

fn plugin() -> PluginName {
    "wallet".parse().unwrap()
}

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

fn file(n: u8) -> KeptFile {
    KeptFile { bytes: vec![n, 0, 255], signature: (n == 1).then(|| "signed".to_owned()) }
}

async fn seen(t: &T, n: u8, state: VersionState, now: i64) {
    let version = PluginVersion {
        plugin: plugin(),
        digest: digest(n),
        size_bytes: 3,
        version: format!("{n}.0"),
        summary: String::new(),
        asks: (n == 1).then(Asks::default),
        state,
        seen_at: at(now),
    };
    t.store.plugins().put_version(&version, host(1), "found", at(now)).await.unwrap();
}

async fn a_version_is_kept_and_known(t: T) {
    t.store.plugins().keep_file(&plugin(), digest(1), file(1), at(0)).await.unwrap();
    t.store.plugins().keep_file(&plugin(), digest(1), file(1), at(1)).await.unwrap();
    assert_eq!(t.store.plugins().file(&plugin(), digest(1)).await.unwrap(), Some(file(1)));
    assert_eq!(t.store.plugins().file(&plugin(), digest(2)).await.unwrap(), None);
    assert_eq!(t.store.plugins().file(&"other".parse().unwrap(), digest(1)).await.unwrap(), None);
    seen(&t, 1, VersionState::Active, 0).await;
    seen(&t, 2, VersionState::Rejected("no".to_owned()), 1).await;
    seen(&t, 1, VersionState::Retired, 2).await;
    let known = t.store.plugins().versions(&plugin(), 10).await.unwrap();
    let lines: Vec<String> = known
        .iter()
        .map(|one| {
            format!("{} {} kept={} asks={:?} {:?}", one.version, one.state, one.kept, one.asks, one.reason)
        })
        .collect();
    expect![[r#"
        1.0 retired kept=true asks="{\"imports\":[],\"statements\":{},\"topics\":[],\"capabilities\":[],\"config\":null}" None
        2.0 rejected kept=false asks="" Some("no")"#]]
    .assert_eq(&lines.join("\n"));
    assert_eq!(t.store.plugins().versions(&"other".parse().unwrap(), 10).await.unwrap().len(), 0);
}

async fn only_stored_versions_can_be_pinned(t: T) {
    let missing = t.store.plugins().pin(&plugin(), digest(1), "ada", at(0)).await;
    assert!(matches!(missing, Err(StoreError::NotFound(_))));
    for n in [1, 2] {
        t.store.plugins().keep_file(&plugin(), digest(n), file(n), at(0)).await.unwrap();
        t.store.plugins().pin(&plugin(), digest(n), "ada", at(i64::from(n))).await.unwrap();
    }
    let pins = t.store.plugins().pins().await.unwrap();
    assert_eq!(
        (pins.len(), pins[0].digest, pins[0].since, pins[0].by.as_str()),
        (1, digest(2), at(2), "ada")
    );
    assert!(t.store.plugins().unpin(&plugin(), "bob", at(3)).await.unwrap());
    assert!(!t.store.plugins().unpin(&plugin(), "bob", at(4)).await.unwrap());
    assert_eq!(t.store.plugins().pins().await.unwrap(), []);
    let trail = t.trail().await;
    let short: Vec<String> = trail.lines().map(|line| line.chars().take(40).collect()).collect();
    expect![[r#"
        ada plugin_pinned wallet: 01010101010101
        ada plugin_pinned wallet: 02020202020202
        bob plugin_unpinned wallet: "#]]
    .assert_eq(&short.join("\n"));
}

async fn old_versions_are_removed_unless_active_or_pinned(t: T) {
    let last = u8::try_from(FILES_KEPT).unwrap() + 5;
    for n in 1..=last {
        t.store.plugins().keep_file(&plugin(), digest(n), file(n), at(i64::from(n))).await.unwrap();
        match n {
            1 => t.store.plugins().pin(&plugin(), digest(1), "ada", at(1)).await.unwrap(),
            2 => seen(&t, 2, VersionState::Active, 2).await,
            _ => {}
        }
    }
    let mut kept = Vec::new();
    for n in 1..=last {
        if t.store.plugins().file(&plugin(), digest(n)).await.unwrap().is_some() {
            kept.push(n);
        }
    }
    let expected: Vec<u8> = [1, 2].into_iter().chain(6..=last).collect();
    assert_eq!(kept, expected);
}
