//! Conversions between WIT's types and the domain's. Values from a guest are bounded here, with checked
//! arithmetic only.

use domain::failure::{ErrorInfo, Failure};
use domain::item::Claimed;
use domain::job::JobSpec;
use domain::limits::{KIB, Limits, cut};
use domain::outcome::{Outcome, PUT_OFF_MAX};
use domain::runner::{FoundItem, Page, PageRequest};
use domain::scope::{Rows, Value};
use domain::text::{check_key, escape};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::guest::bindings::{sql, types};

const CURSOR_BYTES_MAX: usize = 4 * KIB;
const CODE_BYTES_MAX: usize = 128;

/// The context of an item that its attempt receives.
#[derive(Serialize)]
struct ItemContext<'a> {
    batch_id: Option<&'a str>,
    batch_index: Option<u32>,
    epoch: i64,
    first_attempt_ms: Option<i64>,
    job: &'a str,
    last_attempt_ms: Option<i64>,
    last_error: Option<LastError<'a>>,
    max_attempts: Option<u32>,
    operation: Option<&'a str>,
    run_id: Option<String>,
}

#[derive(Serialize)]
struct LastError<'a> {
    code: &'a str,
    message: &'a str,
}

pub fn item(job: &JobSpec, item: Claimed) -> types::Item {
    let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millisecond);
    let last_error = item.last_error.as_ref();
    let batch = item.in_batch.as_ref();
    let context = ItemContext {
        batch_id: batch.map(|batch| batch.batch.as_str()),
        batch_index: batch.map(|batch| batch.index),
        epoch: item.epoch,
        first_attempt_ms: millis(item.first_attempt_at),
        job: job.name.as_str(),
        last_attempt_ms: millis(item.last_attempt_at),
        last_error: last_error.map(|error| LastError { code: &error.code, message: &error.message }),
        max_attempts: batch.and_then(|batch| batch.max_attempts).or(job.retry.max_attempts),
        operation: batch.map(|batch| batch.operation.as_str()),
        run_id: item.run_id.map(|id| id.to_string()),
    };
    // Numbers and texts always have a form in JSON.
    let context = serde_json::to_string(&context).unwrap_or_default();
    types::Item {
        attempt: item.attempts.saturating_add(1),
        idempotency_key: item.idempotency_key(),
        key: item.key,
        payload: item.payload,
        context,
    }
}

/// The context of a run that a discovery receives.
#[derive(Serialize)]
struct RunContext<'a> {
    run_id: String,
    job: &'a str,
    trigger: &'a str,
    scheduled_at_ms: Option<i64>,
    /// The run's parameters, byte for byte.
    params: Option<&'a RawValue>,
    now_ms: i64,
}

pub fn page_request(job: &JobSpec, request: &PageRequest) -> types::PageRequest {
    let context = RunContext {
        run_id: request.run_id.to_string(),
        job: job.name.as_str(),
        trigger: &request.trigger,
        scheduled_at_ms: request.scheduled_at.map(Timestamp::as_millisecond),
        params: request.params.as_deref().and_then(|params| serde_json::from_str(params).ok()),
        now_ms: request.now.as_millisecond(),
    };
    // Strings, numbers and JSON always serialize.
    let context = serde_json::to_string(&context).unwrap_or_default();
    types::PageRequest { cursor: request.cursor.clone(), limit: request.limit, context }
}

pub fn outcome(outcome: types::Outcome, limits: &Limits) -> Result<Outcome, Failure> {
    let text = |note: Option<String>| note.map(|note| shown(&note, limits.text_bytes));
    match outcome {
        types::Outcome::Resolved(note) => Ok(Outcome::Resolved { note: text(note) }),
        types::Outcome::Awaiting(note) => Ok(Outcome::Awaiting { note: text(note) }),
        types::Outcome::Snoozed(ms) => {
            let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
            Ok(Outcome::Snoozed { until: at.unwrap_or(Timestamp::MAX) })
        }
        types::Outcome::Other(name) => {
            let name = shown(&name, CODE_BYTES_MAX);
            Err(Failure::transient(
                "unknown-outcome",
                format!("the plugin answered with the outcome {name:?}, which this host does not know"),
            ))
        }
    }
}

pub fn failure(failure: types::Failure, limits: &Limits) -> Failure {
    match failure {
        types::Failure::Transient(e) => Failure::Transient(error(e, limits)),
        types::Failure::Permanent(e) => Failure::Permanent(error(e, limits)),
        types::Failure::Throttled(throttle) => {
            let millis = i64::try_from(throttle.retry_after).unwrap_or(i64::MAX);
            let retry_after = SignedDuration::from_millis(millis).min(PUT_OFF_MAX);
            Failure::Throttled { retry_after, error: error(throttle.error, limits) }
        }
        types::Failure::Other(text) => Failure::transient("unknown-failure", shown(&text, limits.text_bytes)),
    }
}

fn error(error: types::Error, limits: &Limits) -> ErrorInfo {
    let code = match error.code.as_str() {
        "" => "unspecified".to_owned(),
        code => shown(code, CODE_BYTES_MAX),
    };
    ErrorInfo { code, message: shown(&error.message, limits.text_bytes) }
}

pub fn page(page: types::Page, limit: u32, limits: &Limits) -> Result<Page, Failure> {
    let asked = usize::try_from(limit).unwrap_or(usize::MAX);
    if page.items.len() > asked {
        let message = format!(
            "discover() was asked for at most {limit} items and answered with {}; return at most {limit} and set `next`",
            page.items.len()
        );
        return Err(Failure::transient("page-too-large", message));
    }
    if let Some(cursor) = &page.next {
        if cursor.len() > CURSOR_BYTES_MAX {
            let message = format!("`next` has {} bytes, {CURSOR_BYTES_MAX} are allowed", cursor.len());
            return Err(Failure::transient("cursor-too-large", message));
        }
        if cursor.contains('\0') {
            return Err(Failure::transient("bad-cursor", "`next` holds a zero byte"));
        }
    }
    let items = page.items.into_iter().map(|item| found(item, limits)).collect::<Result<_, _>>()?;
    Ok(Page { items, next: page.next })
}

fn found(item: types::Found, limits: &Limits) -> Result<FoundItem, Failure> {
    let types::Found { key, payload } = item;
    if let Err(why) = check_key(&key) {
        let key = shown(&key, CODE_BYTES_MAX);
        return Err(Failure::transient("bad-key", format!("an item's key {key} is refused: {why}")));
    }
    if payload.len() > limits.payload_bytes {
        let message = format!(
            "the payload of item {key:?} has {} bytes, {} are allowed",
            payload.len(),
            limits.payload_bytes
        );
        return Err(Failure::transient("result-too-large", message));
    }
    if payload.contains('\0') {
        let message = format!("the payload of item {key:?} holds a zero byte");
        return Err(Failure::transient("bad-payload", message));
    }
    Ok(FoundItem { key, payload })
}

/// A guest's text for people: escaped to one line and cut.
pub fn shown(text: &str, bytes_max: usize) -> String {
    cut(&escape(&cut(text, bytes_max)), bytes_max)
}

pub fn value_in(value: sql::Value) -> Value {
    match value {
        sql::Value::Null => Value::Null,
        sql::Value::Boolean(boolean) => Value::Boolean(boolean),
        sql::Value::Integer(integer) => Value::Integer(integer),
        sql::Value::Real(real) => Value::Real(real),
        sql::Value::Text(text) => Value::Text(text),
        sql::Value::Blob(bytes) => Value::Blob(bytes),
    }
}

fn value_out(value: Value) -> sql::Value {
    match value {
        Value::Null => sql::Value::Null,
        Value::Boolean(boolean) => sql::Value::Boolean(boolean),
        Value::Integer(integer) => sql::Value::Integer(integer),
        Value::Real(real) => sql::Value::Real(real),
        Value::Text(text) => sql::Value::Text(text),
        Value::Blob(bytes) => sql::Value::Blob(bytes),
    }
}

pub fn rows_out(rows: Rows) -> sql::Rows {
    let row = |row: Vec<Value>| row.into_iter().map(value_out).collect();
    sql::Rows { columns: rows.columns, rows: rows.rows.into_iter().map(row).collect() }
}
