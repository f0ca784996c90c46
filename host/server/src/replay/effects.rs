//! The effects of an attempt, as objects to be shown and compared. Ids and times that are always
//! new are left out.

use std::collections::BTreeSet;

use domain::alert::Alert;
use domain::effect::{AuditRecord, Change, Effect, Event, Metric, NewItem};
use domain::scope;
use sandbox::Trial;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::attempts::scope::{Asked, SqlWrite};

/// A longer text is replaced by its digest.
const TEXT_BYTES_MAX: usize = 512;

/// Lists the effects by kind, and each kind in the order of the requests.
pub fn of(version: &Trial, asked: Asked) -> Vec<Value> {
    let Asked { effects, sql, locks, requests } = asked;
    let mut all = Vec::new();
    all.extend(sql.iter().map(|write| sql_write(version, write)));
    all.extend(effects.kv.iter().map(|write| {
        let ttl_ms = write.ttl.and_then(|ttl| i64::try_from(ttl.as_millis()).ok());
        let value = write.value.as_deref().map(text);
        json!({ "kind": "kv", "bucket": write.bucket, "key": write.key, "value": value, "ttl_ms": ttl_ms })
    }));
    let mut requested: Vec<(u8, Value)> = effects.requested.iter().map(effect).collect();
    requested.sort_by_key(|(position, _)| *position);
    all.extend(requested.into_iter().map(|(_, shown)| shown));
    all.extend(locks.iter().map(|name| json!({ "kind": "lock", "name": name })));
    all.extend(requests.iter().map(|request| {
        json!({ "kind": "http", "method": request.method, "place": text(request.place.as_bytes()) })
    }));
    all
}

/// The position of the effect's kind in the list, and the effect.
fn effect(effect: &Effect) -> (u8, Value) {
    match effect {
        Effect::Event(Event { topic, key, payload, .. }) => {
            (0, json!({ "kind": "event", "topic": topic, "key": key, "payload": text(payload.as_bytes()) }))
        }
        Effect::Item(NewItem { job, key, payload }) => {
            let payload = text(payload.as_bytes());
            (1, json!({ "kind": "item", "job": job.as_str(), "key": key, "payload": payload }))
        }
        Effect::Alert(alert) => (2, alert_raised(alert)),
        Effect::Audit(AuditRecord { action, subject, detail }) => {
            let detail = text(detail.as_bytes());
            (3, json!({ "kind": "audit", "action": action, "subject": subject, "detail": detail }))
        }
        Effect::Metric(reported) => (4, metric(reported)),
    }
}

fn alert_raised(alert: &Alert) -> Value {
    json!({
        "kind": "alert", "alert": alert.kind, "key": alert.key, "severity": alert.severity.as_str(),
        "message": text(alert.message.as_bytes()), "metadata": text(alert.metadata.as_bytes()),
    })
}

/// Kinds of effects that differ between the two versions, in content or in order.
pub fn differing(now: &[Value], new: &[Value]) -> Vec<String> {
    let kind = |effect: &Value| effect["kind"].as_str().unwrap_or_default().to_owned();
    let kinds: BTreeSet<String> = now.iter().chain(new).map(kind).collect();
    let differs = |wanted: &String| {
        let of_kind = |effect: &&Value| kind(effect) == *wanted;
        !now.iter().filter(of_kind).eq(new.iter().filter(of_kind))
    };
    kinds.into_iter().filter(differs).collect()
}

fn sql_write(version: &Trial, write: &SqlWrite) -> Value {
    let SqlWrite { statement, params, rows } = write;
    let params: Vec<Value> = params.iter().map(param).collect();
    json!({
        "kind": "sql", "statement": version.name_of(statement), "datasource": statement.datasource,
        "sql": text(statement.sql.as_bytes()), "params": params, "rows": rows,
    })
}

fn param(value: &scope::Value) -> Value {
    match value {
        scope::Value::Null => Value::Null,
        scope::Value::Boolean(truth) => json!(truth),
        scope::Value::Integer(number) => json!(number),
        scope::Value::Real(number) => json!(number),
        scope::Value::Text(words) => json!(text(words.as_bytes())),
        scope::Value::Blob(bytes) => json!({ "blob": digest(bytes) }),
    }
}

fn metric(metric: &Metric) -> Value {
    let Metric { name, labels, change } = metric;
    let labels: serde_json::Map<String, Value> =
        labels.iter().map(|(label, value)| (label.clone(), json!(value))).collect();
    match change {
        Change::Add(number) => json!({ "kind": "metric", "name": name, "labels": labels, "add": number }),
        Change::Set(number) => json!({ "kind": "metric", "name": name, "labels": labels, "set": number }),
    }
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= TEXT_BYTES_MAX => text.to_owned(),
        _ => digest(bytes),
    }
}

fn digest(bytes: &[u8]) -> String {
    let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digest} ({} bytes)", bytes.len())
}
