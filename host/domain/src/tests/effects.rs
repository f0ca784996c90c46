//! Which effects a job may request.

use expect_test::expect;

use super::describe::job;
use crate::alert::{Alert, Severity};
use crate::effect::{AuditRecord, Change, Effect, Event, Metric, NewItem};
use crate::job::{Capability, Grants, JobSpec};

/// A job with a grant for each effect, and small limits.
fn granted() -> JobSpec {
    let mut job = job(Grants {
        topics: ["orders".to_owned()].into(),
        items: ["other".parse().unwrap()].into(),
        capabilities: Capability::ALL.into(),
        ..Grants::default()
    });
    (job.limits.payload_bytes, job.limits.text_bytes) = (4, 4);
    job
}

fn event(topic: &str, key: &str, payload: &str) -> Effect {
    Effect::Event(Event::new(topic, key, payload))
}

fn alert(kind: &str, key: &str, message: &str, metadata: &str) -> Effect {
    let [kind, key, message, metadata] = [kind, key, message, metadata].map(str::to_owned);
    Effect::Alert(Alert { kind, key, severity: Severity::Error, message, metadata })
}

fn audit(action: &str, subject: &str, detail: &str) -> Effect {
    let [action, subject, detail] = [action, subject, detail].map(str::to_owned);
    Effect::Audit(AuditRecord { action, subject, detail })
}

fn item(job: &str, key: &str, payload: &str) -> Effect {
    Effect::Item(NewItem { job: job.parse().unwrap(), key: key.to_owned(), payload: payload.to_owned() })
}

fn metric(name: &str) -> Effect {
    Effect::Metric(Metric { name: name.to_owned(), labels: vec![], change: Change::Add(1) })
}

fn verdicts(job: &JobSpec, effects: Vec<Effect>) -> String {
    let line = |effect: Effect| match effect.checked(job) {
        Ok(_) => "accepted\n".to_owned(),
        Err(error) => format!("{error}\n"),
    };
    effects.into_iter().map(line).collect()
}

#[test]
fn each_effect_needs_its_grant() {
    let effects = || {
        vec![
            event("orders", "k", "{}"),
            alert("K", "k", "m", ""),
            audit("a", "s", "d"),
            item("other", "k", "{}"),
            metric("orders"),
        ]
    };
    expect![[r#"
        denied: job wallet is not granted topic "orders"
        denied: job wallet is not granted alerts
        denied: job wallet is not granted audit
        denied: job wallet is not granted to add items to job "other"
        denied: job wallet is not granted metrics
    "#]]
    .assert_eq(&verdicts(&job(Grants::default()), effects()));
    expect![[r#"
        accepted
        accepted
        accepted
        accepted
        accepted
    "#]]
    .assert_eq(&verdicts(&granted(), effects()));
    let others = vec![event("other", "k", "{}"), item("orders", "k", "{}")];
    expect![[r#"
        denied: job wallet is not granted topic "other"
        denied: job wallet is not granted to add items to job "orders"
    "#]]
    .assert_eq(&verdicts(&granted(), others));
}

#[test]
fn content_of_effects_is_checked() {
    let long = "k".repeat(513);
    let effects = vec![
        event("orders", "", "{}"),
        event("orders", &long, "{}"),
        event("orders", "k\u{202e}", "{}"),
        event("orders", "k", "12345"),
        event("orders", "k", "\0"),
        alert("", "", "m", ""),
        alert("K", "", "m", ""),
        alert("K", "k\n", "m", ""),
        alert("K", "k", "12345", ""),
        alert("K", "k", "m", "12345"),
        audit("a\0", "", ""),
        audit("a", &long, ""),
        audit("a", "", "12345"),
        item("other", "", ""),
        item("other", "k", "12345"),
        item("other", "k", "\0"),
        metric("no name"),
    ];
    expect![[r#"
        limit: an event key that is empty
        limit: an event key of 513 bytes, at most 512
        refused: an event key is refused: it holds the control or invisible character U+202E, in "k\u{202e}"
        limit: a payload of 5 bytes, at most 4
        refused: a payload with a zero byte
        limit: a kind that is empty
        accepted
        refused: an alert's key is refused: it holds the control or invisible character U+000A, in "k\n"
        limit: a message of 5 bytes, at most 4
        limit: metadata of 5 bytes, at most 4
        refused: an action is refused: it holds the control or invisible character U+0000, in "a\u{0}"
        limit: a subject of 513 bytes, at most 512
        limit: a detail of 5 bytes, at most 4
        limit: a key that is empty
        limit: a payload of 5 bytes, at most 4
        refused: a payload with a zero byte
        refused: "no name" is not a metric's name: use letters, digits and _
    "#]]
    .assert_eq(&verdicts(&granted(), effects));
}

#[test]
fn hidden_characters_of_texts_for_people_become_visible() {
    let mut job = granted();
    job.limits.text_bytes = 20;
    let shown = alert("K", "k", "a\u{1b}\nb", "\u{1b}").checked(&job).unwrap();
    assert_eq!(shown, alert("K", "k", "a\\u{1b}\nb", "\u{1b}"));
    assert_eq!(audit("a", "s", "\u{2028}").checked(&job).unwrap(), audit("a", "s", "\\u{2028}"));
}
