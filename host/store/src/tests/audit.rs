//! The audit trail is append-only, and has records of hosts and plugin versions.

use domain::id::Digest;
use domain::plugin::{PluginVersion, VersionState};
use expect_test::expect;
use test_support::{Kind, on_both};

use super::support::{T, at, host, incarnation, job, lease};
use crate::audit::Entry;

on_both! {
    trail_refuses_every_change,
    newest_entries_come_first,
    hosts_leave_a_row_and_a_line,
    plugin_versions_leave_a_row_and_a_line,
}

async fn trail_refuses_every_change(t: T) {
    t.store.jobs().trigger(&job().name, None, "ada", at(0)).await.unwrap();
    let before = t.everything().await;
    let mut changes = vec!["UPDATE audit SET actor = 'eve'", "DELETE FROM audit"];
    if t.kind == Kind::Postgres {
        changes.extend(["TRUNCATE audit", "TRUNCATE audit CASCADE"]);
    }
    for change in changes {
        let error = t.tamper(change).await.unwrap_err();
        assert!(error.to_string().contains("the audit trail is append-only"), "{change}: {error}");
    }
    assert_eq!(t.everything().await, before);
}

async fn newest_entries_come_first(t: T) {
    for now in 0..5 {
        let subject = now.to_string();
        let entry = Entry { actor: "ada", action: "paused", job: None, subject: &subject, detail: "" };
        t.store.audit().add(&entry, at(now)).await.unwrap();
    }
    let trail = t.store.audit().list(3).await.unwrap();
    let subjects: Vec<&str> = trail.iter().map(|entry| entry.subject.as_str()).collect();
    assert_eq!(subjects, ["4", "3", "2"]);
    assert_eq!((trail[0].at, trail[0].job.as_deref()), (at(4), None));
}

async fn hosts_leave_a_row_and_a_line(t: T) {
    t.host_started(1, "alpha", 0).await;
    t.host_started(2, "beta", 1).await;
    t.store.items().renew(lease(1, 9)).await.unwrap();
    t.store.hosts().stopped(host(2), incarnation(2), at(10)).await.unwrap();
    let hosts = t.store.hosts().list(9).await.unwrap();
    let seen: Vec<_> = hosts.iter().map(|h| (h.name.as_str(), h.heartbeat_at, h.stopped_at)).collect();
    assert_eq!(seen, [("beta", at(1), Some(at(10))), ("alpha", at(9), None)]);
    t.host_started(2, "beta", 20).await;
    let again = t.store.hosts().list(1).await.unwrap().remove(0);
    assert_eq!((again.started_at, again.stopped_at), (at(20), None));
    expect![[r#"
        host:00000000-0000-0000-0000-000000000001 host_started 00000000-0000-0000-0000-000000000001: alpha as 00000000-0000-0000-0000-000000000001
        host:00000000-0000-0000-0000-000000000002 host_started 00000000-0000-0000-0000-000000000002: beta as 00000000-0000-0000-0000-000000000002
        host:00000000-0000-0000-0000-000000000002 host_started 00000000-0000-0000-0000-000000000002: beta as 00000000-0000-0000-0000-000000000002, after 00000000-0000-0000-0000-000000000002
    "#]]
    .assert_eq(&t.trail().await);
}

async fn plugin_versions_leave_a_row_and_a_line(t: T) {
    let mut version = PluginVersion {
        plugin: "wallet-keygen".parse().unwrap(),
        digest: Digest([1; 32]),
        size_bytes: 9,
        version: "1.0".to_owned(),
        summary: String::new(),
        asks: None,
        state: VersionState::Active,
        seen_at: at(0),
    };
    for (now, state) in
        [VersionState::Active, VersionState::Rejected("no".to_owned())].into_iter().enumerate()
    {
        version.state = state;
        let now = at(10 + i64::try_from(now).unwrap());
        t.store.plugins().put_version(&version, host(1), "promoted by ada", now).await.unwrap();
    }
    // The time of the change, not the time when the version was first found.
    let times: Vec<_> = t.store.audit().list(9).await.unwrap().iter().map(|entry| entry.at).collect();
    assert_eq!(times, [at(11), at(10)]);
    let rows = t.rows("SELECT state, reason FROM plugin_version").await;
    assert_eq!(
        (rows.len(), rows[0].text("state").unwrap(), rows[0].text("reason").unwrap()),
        (1, "rejected".to_owned(), "no".to_owned())
    );
    expect![[r#"
        host:00000000-0000-0000-0000-000000000001 plugin_active wallet-keygen: 0101010101010101010101010101010101010101010101010101010101010101: promoted by ada
        host:00000000-0000-0000-0000-000000000001 plugin_rejected wallet-keygen: 0101010101010101010101010101010101010101010101010101010101010101: no
    "#]]
    .assert_eq(&t.trail().await);
}
