//! The active version of a plugin, and the decisions that lead to it.

use domain::id::{Digest, PluginName};
use domain::plugin::{Asks, PluginVersion, VersionState};
use domain::release::{Approval, Canary, Decision, ReleaseRules, Stage, TrialResults};
use test_support::on_both;

use super::support::{T, at, host};
use crate::plugins::KeptFile;
use crate::plugins::releases::NewVersion;
use crate::plugins::uploads::Uploaded;

on_both! {
    new_version_is_active_at_once_without_rules,
    version_with_more_requests_waits_for_approval,
    a_version_on_trial_takes_over_once,
    rolled_back_version_needs_approval,
    replaced_version_returns_only_with_permission,
    removed_plugin_returns_with_a_new_version,
    stable_version_and_candidate_are_kept,
    upload_is_released_like_a_file,
    upload_stays_when_its_host_finds_an_old_file_at_its_start,
    upload_under_a_pin_is_kept_and_does_not_run,
    requests_are_compared_with_the_stable_version,
}

fn plugin() -> PluginName {
    "wallet".parse().unwrap()
}

fn digest(n: u8) -> Digest {
    Digest([n; 32])
}

fn version(n: u8) -> PluginVersion {
    PluginVersion {
        plugin: plugin(),
        digest: digest(n),
        size_bytes: 3,
        version: format!("{n}.0"),
        summary: String::new(),
        asks: None,
        state: VersionState::Active,
        seen_at: at(0),
    }
}

const TRIAL: ReleaseRules = ReleaseRules { approval: Approval::Off, canary: Some(Canary::DEFAULT) };
const AT_ONCE: ReleaseRules = ReleaseRules { approval: Approval::Off, canary: None };
const APPROVED: ReleaseRules = ReleaseRules { approval: Approval::Wider, canary: Some(Canary::DEFAULT) };

async fn decide(t: &T, n: u8, rules: &ReleaseRules, wants: &[&str], returns: bool) -> Decision {
    let wants: Vec<String> = wants.iter().map(|want| (*want).to_owned()).collect();
    let found = NewVersion { version: &version(n), wants: &wants, returns, at_start: false, host: host(1) };
    t.store.plugins().decide(&found, rules, at(i64::from(n))).await.unwrap()
}

/// `stable`, or `stable<candidate(stage)`.
async fn release_state(t: &T) -> String {
    let releases = t.store.plugins().releases().await.unwrap();
    let [release] = releases.as_slice() else { panic!("{releases:?}") };
    let number = |digest: Digest| digest.0[0];
    let stable = release.stable.map_or("none".to_owned(), |digest| number(digest).to_string());
    match &release.candidate {
        None => stable,
        Some(one) => format!("{stable}<{}({})", number(one.digest), one.stage.word()),
    }
}

async fn actions(t: &T) -> String {
    let trail = t.store.audit().list(20).await.unwrap();
    let actions: Vec<_> = trail.iter().rev().map(|entry| entry.action.clone()).collect();
    actions.join(" ")
}

async fn new_version_is_active_at_once_without_rules(t: T) {
    assert_eq!(decide(&t, 1, &AT_ONCE, &["all"], true).await, Decision::Stable);
    assert_eq!(decide(&t, 2, &AT_ONCE, &["more"], true).await, Decision::Stable);
    assert_eq!(decide(&t, 2, &AT_ONCE, &["more"], false).await, Decision::Stable);
    assert_eq!(release_state(&t).await, "2");
    // The first version has no other to be tried against.
    assert_eq!(t.store.plugins().tried(&plugin()).await.unwrap().len(), 0);
}

async fn version_with_more_requests_waits_for_approval(t: T) {
    assert_eq!(decide(&t, 1, &APPROVED, &[], true).await, Decision::Stable);
    assert_eq!(
        decide(&t, 2, &APPROVED, &["topic \"a\"", "import b"], true).await,
        Decision::On(Stage::Waiting)
    );
    assert_eq!(release_state(&t).await, "1<2(waiting)");
    let wants = t.store.plugins().releases().await.unwrap()[0].candidate.clone().unwrap().wants;
    assert_eq!(wants, ["topic \"a\"", "import b"]);
    // Meanwhile a host can neither promote it nor roll it back.
    assert!(!t.store.plugins().promote_candidate(&plugin(), digest(2), ("h", ""), at(3)).await.unwrap());
    assert!(
        !t.store.plugins().roll_back_candidate(&plugin(), digest(2), ("h", ""), &[], at(3)).await.unwrap()
    );
    t.store.plugins().approve(&plugin(), digest(2), &APPROVED, "ada", at(3)).await.unwrap();
    assert_eq!(release_state(&t).await, "1<2(canary)");
    for n in [1, 2, 3] {
        let refused = t.store.plugins().approve(&plugin(), digest(n), &APPROVED, "ada", at(3)).await;
        assert!(refused.unwrap_err().to_string().contains("does not wait for approval"));
    }
    // A version without further requests does not wait for approval.
    assert_eq!(decide(&t, 3, &APPROVED, &[], true).await, Decision::On(Stage::Canary));
    assert_eq!(release_state(&t).await, "1<3(canary)");
    assert_eq!(actions(&t).await, "plugin_waits plugin_approved plugin_canary_began");
}

async fn a_version_on_trial_takes_over_once(t: T) {
    decide(&t, 1, &TRIAL, &[], true).await;
    assert_eq!(decide(&t, 2, &TRIAL, &[], true).await, Decision::On(Stage::Canary));
    let tried = TrialResults { attempts: 3, failed: 1, cpu_us: 30 };
    for _ in 0..2 {
        t.store.plugins().add_tried(&plugin(), digest(2), &tried).await.unwrap();
    }
    let sum = TrialResults { attempts: 6, failed: 2, cpu_us: 60 };
    assert_eq!(t.store.plugins().tried(&plugin()).await.unwrap().get(&digest(2)), Some(&sum));
    assert!(t.store.plugins().promote_candidate(&plugin(), digest(2), ("h", "good"), at(3)).await.unwrap());
    assert!(!t.store.plugins().promote_candidate(&plugin(), digest(2), ("h", "good"), at(3)).await.unwrap());
    assert_eq!(release_state(&t).await, "2");
    // The next trial starts without results.
    assert_eq!(decide(&t, 3, &TRIAL, &[], true).await, Decision::On(Stage::Canary));
    assert!(t.store.plugins().tried(&plugin()).await.unwrap().is_empty());
    assert_eq!(actions(&t).await, "plugin_canary_began plugin_promoted plugin_canary_began");
}

async fn rolled_back_version_needs_approval(t: T) {
    decide(&t, 1, &TRIAL, &[], true).await;
    decide(&t, 2, &TRIAL, &[], true).await;
    let jobs = ["wallets".parse().unwrap(), "payouts".parse().unwrap()];
    let reported = ("host:1", "it fails");
    assert!(
        t.store.plugins().roll_back_candidate(&plugin(), digest(2), reported, &jobs, at(3)).await.unwrap()
    );
    assert!(
        !t.store.plugins().roll_back_candidate(&plugin(), digest(2), reported, &jobs, at(3)).await.unwrap()
    );
    assert_eq!(release_state(&t).await, "1");
    let alerts = t.store.alerts().list(true, 10).await.unwrap();
    let shown: Vec<_> =
        alerts.iter().map(|one| (one.job.as_str(), one.alert.kind.as_str(), one.times)).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown.iter().all(|(_, kind, times)| (*kind, *times) == ("plugin-rolled-back", 1)));
    let Decision::Quarantined(why) = decide(&t, 2, &TRIAL, &[], true).await else { panic!() };
    assert!(why.starts_with("in quarantine since 2026-11-20 12:00:03Z: it fails"), "{why}");

    t.store.plugins().approve(&plugin(), digest(2), &TRIAL, "ada", at(4)).await.unwrap();
    assert_eq!(decide(&t, 2, &TRIAL, &[], true).await, Decision::On(Stage::Canary));
    // Manually, too; but not the stable version.
    assert!(t.store.plugins().quarantine(&plugin(), digest(2), ("ada", "no"), at(5)).await.unwrap());
    assert!(!t.store.plugins().quarantine(&plugin(), digest(1), ("ada", "no"), at(5)).await.unwrap());
    assert_eq!(release_state(&t).await, "1");
    // Ordered by time; it was found twice at the same time.
    let expected =
        "plugin_canary_began plugin_canary_began plugin_rolled_back plugin_approved plugin_quarantined";
    assert_eq!(actions(&t).await, expected);
}

async fn replaced_version_returns_only_with_permission(t: T) {
    for n in [1, 2] {
        assert_eq!(decide(&t, n, &AT_ONCE, &[], false).await, Decision::Stable, "it never ran before");
    }
    assert_eq!(decide(&t, 1, &AT_ONCE, &[], false).await, Decision::Replaced);
    assert_eq!(release_state(&t).await, "2");
    assert_eq!(decide(&t, 1, &AT_ONCE, &[], true).await, Decision::Stable);
    assert_eq!(release_state(&t).await, "1");
}

async fn removed_plugin_returns_with_a_new_version(t: T) {
    assert!(!t.store.plugins().retire(&plugin(), "ada", at(0)).await.unwrap());
    decide(&t, 1, &TRIAL, &[], true).await;
    assert!(t.store.plugins().retire(&plugin(), "ada", at(1)).await.unwrap());
    assert!(!t.store.plugins().retire(&plugin(), "ada", at(1)).await.unwrap());
    assert_eq!(release_state(&t).await, "none");
    assert_eq!(decide(&t, 1, &TRIAL, &[], false).await, Decision::Replaced);
    assert_eq!(decide(&t, 2, &TRIAL, &[], false).await, Decision::Stable);
    assert_eq!(actions(&t).await, "plugin_taken_out");
}

async fn stable_version_and_candidate_are_kept(t: T) {
    decide(&t, 1, &TRIAL, &[], true).await;
    decide(&t, 2, &TRIAL, &[], true).await;
    for n in 1..30 {
        let file = KeptFile { bytes: vec![n], signature: None };
        t.store.plugins().keep_file(&plugin(), digest(n), file, at(i64::from(n))).await.unwrap();
    }
    for n in [1, 2] {
        assert!(t.store.plugins().file(&plugin(), digest(n)).await.unwrap().is_some(), "{n}");
    }
    assert!(t.store.plugins().file(&plugin(), digest(3)).await.unwrap().is_none());
    assert!(t.store.plugins().promote(&plugin(), digest(3), "ada", at(50)).await.is_err());
    t.store.plugins().promote(&plugin(), digest(29), "ada", at(50)).await.unwrap();
    assert_eq!(release_state(&t).await, "29");
}

async fn upload(t: &T, n: u8, rules: &ReleaseRules, topics: &[&str]) -> Uploaded {
    let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
    let asks = Some(Asks { topics, ..Asks::default() });
    let version = PluginVersion { asks, state: VersionState::Retired, ..version(n) };
    let file = KeptFile { bytes: vec![n], signature: None };
    t.store.plugins().upload(&version, file, host(1), rules, "ada", at(i64::from(n))).await.unwrap()
}

async fn upload_is_released_like_a_file(t: T) {
    let stable = Uploaded::Decided(Decision::Stable);
    assert_eq!(upload(&t, 1, &APPROVED, &["a"]).await, stable, "the first version has none before it");
    assert_eq!(upload(&t, 1, &APPROVED, &["a"]).await, Uploaded::Unchanged);
    assert_eq!(upload(&t, 2, &TRIAL, &["a", "b"]).await, Uploaded::Decided(Decision::On(Stage::Canary)));
    let waits = Uploaded::Decided(Decision::On(Stage::Waiting));
    assert_eq!(upload(&t, 3, &APPROVED, &["a", "b"]).await, waits);
    assert_eq!(release_state(&t).await, "1<3(waiting)");
    assert_eq!(
        t.store.plugins().releases().await.unwrap()[0].candidate.clone().unwrap().wants,
        ["topic \"b\""]
    );
    let known = t.store.plugins().versions(&plugin(), 9).await.unwrap();
    let waiting: Vec<_> = known.iter().filter(|one| one.state == "waiting").collect();
    assert_eq!((waiting.len(), waiting[0].reason.as_deref()), (1, Some("topic \"b\"")));
    assert_eq!(upload(&t, 4, &AT_ONCE, &["c"]).await, stable);
    assert_eq!(release_state(&t).await, "4");
    t.store.plugins().quarantine(&plugin(), digest(5), ("ada", "no"), at(5)).await.unwrap();
    assert_eq!(t.store.plugins().pins().await.unwrap(), []);
    let trail = t.store.audit().list(50).await.unwrap();
    assert!(trail.iter().all(|entry| entry.actor == "ada" && entry.action != "plugin_pinned"));
    let began = trail.iter().find(|entry| entry.action == "plugin_canary_began").unwrap();
    assert!(began.detail.ends_with("uploaded by ada"), "{}", began.detail);
}

/// A single host follows its folder, but an uploaded version is in no folder.
async fn upload_stays_when_its_host_finds_an_old_file_at_its_start(t: T) {
    let at_start = async |n| {
        let found =
            NewVersion { version: &version(n), wants: &[], returns: true, at_start: true, host: host(1) };
        t.store.plugins().decide(&found, &AT_ONCE, at(20)).await.unwrap()
    };
    decide(&t, 1, &AT_ONCE, &[], true).await;
    assert!(!t.store.plugins().releases().await.unwrap()[0].uploaded);
    upload(&t, 2, &AT_ONCE, &[]).await;
    assert_eq!(at_start(1).await, Decision::Replaced);
    let release = t.store.plugins().releases().await.unwrap().remove(0);
    assert_eq!((release.stable, release.uploaded), (Some(digest(2)), true));
    assert_eq!(release.cause, "uploaded by ada");
    // A file that was never active is new; so is one that is added while the host runs.
    assert_eq!(at_start(3).await, Decision::Stable);
    assert!(!t.store.plugins().releases().await.unwrap()[0].uploaded);
    upload(&t, 4, &AT_ONCE, &[]).await;
    assert_eq!(decide(&t, 1, &AT_ONCE, &[], true).await, Decision::Stable);
}

async fn upload_under_a_pin_is_kept_and_does_not_run(t: T) {
    upload(&t, 1, &AT_ONCE, &[]).await;
    t.store.plugins().pin(&plugin(), digest(1), "bob", at(1)).await.unwrap();
    assert_eq!(upload(&t, 2, &AT_ONCE, &[]).await, Uploaded::Pinned(digest(1)));
    assert_eq!(release_state(&t).await, "1");
    assert!(t.store.plugins().file(&plugin(), digest(2)).await.unwrap().is_some());
    t.store.plugins().pin(&plugin(), digest(2), "bob", at(3)).await.unwrap();
    assert_eq!(t.store.plugins().pins().await.unwrap()[0].digest, digest(2));
}

/// This also holds if the host that found it does not run the stable version, and so cannot compare the two.
async fn requests_are_compared_with_the_stable_version(t: T) {
    let asking = |n, topic: &str| {
        let asks = Asks { topics: vec![topic.to_owned()], ..Asks::default() };
        PluginVersion { asks: Some(asks), ..version(n) }
    };
    for (n, topic, expected) in [
        (1, "a", Decision::Stable),
        (2, "a", Decision::On(Stage::Canary)),
        (3, "b", Decision::On(Stage::Waiting)),
    ] {
        let version = asking(n, topic);
        let found =
            NewVersion { version: &version, wants: &[], returns: true, at_start: false, host: host(1) };
        assert_eq!(t.store.plugins().decide(&found, &APPROVED, at(i64::from(n))).await.unwrap(), expected);
    }
}
