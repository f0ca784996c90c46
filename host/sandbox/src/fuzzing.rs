//! Entry point for `cargo xtask fuzz` (feature `fuzzing`, never enabled in shipped builds): calls host functions
//! without a guest.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::clock::Clock;
use domain::job::JobSpec;
use domain::plugin::{Describe, Statement};
use domain::scope::Scope;
use wasmtime::component::Resource;

use crate::error::SandboxError;
use crate::guest::bindings::alerts::{Alert, Host as _, Severity};
use crate::guest::bindings::audit::Host as _;
use crate::guest::bindings::config::Host as _;
use crate::guest::bindings::events::Host as _;
use crate::guest::bindings::items::Host as _;
use crate::guest::bindings::keyvalue::{Host as _, HostBucket as _};
use crate::guest::bindings::kv::Host as _;
use crate::guest::bindings::locks::Host as _;
use crate::guest::bindings::logging::{Host as _, Level};
use crate::guest::bindings::metrics::Host as _;
use crate::guest::bindings::sql::{self, Host as _};
use crate::guest::bindings::types;
use crate::guest::convert;
use crate::guest::http::Clients;
use crate::guest::log::LogSource;
use crate::guest::state::{AttemptContext, AttemptTag, GuestState, SharedResources};
use crate::versions::component::refused_config;

/// Longest text: above the limits of keys, codes and labels.
const TEXT_MAX: usize = 700;
/// Characters with a special meaning in some format.
const CHARACTERS: [char; 16] = [
    'a',
    '0',
    '_',
    '/',
    '.',
    '"',
    '\\',
    '\0',
    '\n',
    '\x1b',
    '\u{202e}',
    '\u{2028}',
    'é',
    '\u{10ffff}',
    '\u{1f980}',
    ' ',
];

/// Whether a schema accepts a job's config.
pub fn config(schema: &serde_json::Value, config: &BTreeMap<String, String>) -> Option<String> {
    let validator = jsonschema::validator_for(schema).ok()?;
    refused_config(&validator, schema, config)
}

/// An attempt without a guest.
pub struct Attempt(GuestState);

impl Attempt {
    pub fn new(job: Arc<JobSpec>, scope: Arc<dyn Scope>) -> Result<Attempt, SandboxError> {
        let clients = Clients::new(&[]).map_err(SandboxError::Tls)?;
        let outside = SharedResources { clock: Clock::steady(), clients: Arc::new(clients) };
        let sql = "SELECT 1".to_owned();
        let statement = Statement { datasource: "any".to_owned(), sql, writes: false, params: None };
        let statements = BTreeMap::from([("a".to_owned(), statement)]);
        let describe = Arc::new(Describe { statements, ..Describe::default() });
        let limits = job.limits.clone();
        let fence = Some(AttemptTag { epoch: 1, idempotency_key: "any".to_owned() });
        let granted = AttemptContext { job, describe, scope, fence };
        Ok(Attempt(GuestState::new(Some(granted), &limits, &outside, LogSource::default())))
    }

    /// Calls host functions with values derived from these bytes, until the bytes are used up.
    pub async fn call(&mut self, bytes: &[u8]) {
        let mut draw = Draw(bytes);
        while !draw.0.is_empty() {
            self.call_one(&mut draw).await;
        }
        self.0.finish_output();
        self.0.log().take();
    }

    async fn call_one(&mut self, draw: &mut Draw<'_>) {
        let state = &mut self.0;
        match draw.byte() % 17 {
            0 => drop(sql::Host::query(state, draw.text(), draw.list(Draw::value)).await),
            1 => drop(state.execute(draw.text(), draw.list(Draw::value)).await),
            2 => drop(state.publish(draw.text(), draw.text(), draw.text()).await),
            3 => drop(state.raise(draw.alert()).await),
            4 => drop(state.record_action(draw.text(), draw.text(), draw.text()).await),
            5 => drop(state.add(draw.text(), draw.list(Draw::label), draw.number()).await),
            6 => {
                let (name, labels, value) = (draw.text(), draw.list(Draw::label), draw.real());
                drop(crate::guest::bindings::metrics::Host::set(state, name, labels, value).await);
            }
            7 => drop(state.enqueue(draw.text(), draw.text(), draw.text()).await),
            8 => state.log(Level::Info, draw.text(), draw.text()),
            9 => drop(crate::guest::bindings::config::Host::get(state, draw.text())),
            10 => drop(state.get_all()),
            11 => bucket(state, draw).await,
            12 => drop(state.try_acquire(draw.text()).await),
            13 => {
                let (bucket, key, value) = (draw.text(), draw.text(), draw.text().into_bytes());
                drop(state.set_for(bucket, key, value, draw.number()).await);
            }
            14 => compare_and_set(state, draw).await,
            15 => drop(convert::outcome(draw.outcome(), &state.limits)),
            _ => {
                drop(convert::page(draw.page(), 3, &state.limits));
                drop(convert::failure(draw.failure(), &state.limits));
            }
        }
    }
}

async fn compare_and_set(state: &mut GuestState, draw: &mut Draw<'_>) {
    let (bucket, key) = (draw.text(), draw.text());
    let (expected, value) = (draw.option().map(String::into_bytes), draw.option().map(String::into_bytes));
    let ttl = draw.byte().is_multiple_of(2).then(|| draw.number());
    drop(crate::guest::bindings::kv::Host::compare_and_set(state, bucket, key, expected, value, ttl).await);
}

async fn bucket(state: &mut GuestState, draw: &mut Draw<'_>) {
    let opened = state.open(draw.text()).await;
    let handle = opened.ok().and_then(Result::ok).map_or(7, |bucket| bucket.rep());
    let bucket = || Resource::new_own(handle);
    let key = draw.text();
    let value = draw.text().into_bytes();
    drop(crate::guest::bindings::keyvalue::HostBucket::set(state, bucket(), key.clone(), value).await);
    drop(crate::guest::bindings::keyvalue::HostBucket::get(state, bucket(), key.clone()).await);
    drop(state.exists(bucket(), key.clone()).await);
    drop(state.list_keys(bucket(), Some(draw.number())).await);
    drop(state.delete(bucket(), key).await);
    drop(crate::guest::bindings::keyvalue::HostBucket::drop(state, bucket()).await);
}

/// Derives values from bytes. Returns zeros when the bytes are used up.
struct Draw<'a>(&'a [u8]);

impl Draw<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Often an extreme value.
    fn number(&mut self) -> u64 {
        let bits = (0..8).fold(0_u64, |bits, _| bits << 8 | u64::from(self.byte()));
        match self.byte() % 8 {
            0 => 0,
            1 => u64::MAX,
            2 => i64::MAX.unsigned_abs(),
            3 => i64::MIN.unsigned_abs(),
            4 => bits % 1_000,
            _ => bits,
        }
    }

    fn real(&mut self) -> f64 {
        f64::from_bits(self.number())
    }

    fn text(&mut self) -> String {
        let length = match self.byte() {
            short @ 0..=99 => usize::from(short % 12),
            long => usize::from(long) * TEXT_MAX / 255,
        };
        let repeated = length > 40;
        let mut character = || CHARACTERS[usize::from(self.byte()) % CHARACTERS.len()];
        match repeated {
            true => character().to_string().repeat(length),
            false => (0..length).map(|_| character()).collect(),
        }
    }

    fn option(&mut self) -> Option<String> {
        (!self.byte().is_multiple_of(3)).then(|| self.text())
    }

    fn list<T>(&mut self, one: fn(&mut Self) -> T) -> Vec<T> {
        (0..self.byte() % 5).map(|_| one(self)).collect()
    }

    fn label(&mut self) -> (String, String) {
        (self.text(), self.text())
    }

    fn value(&mut self) -> sql::Value {
        match self.byte() % 6 {
            0 => sql::Value::Null,
            1 => sql::Value::Boolean(self.byte() > 127),
            2 => sql::Value::Integer(self.number().cast_signed()),
            3 => sql::Value::Real(self.real()),
            4 => sql::Value::Text(self.text()),
            _ => sql::Value::Blob(self.text().into_bytes()),
        }
    }

    fn alert(&mut self) -> Alert {
        Alert {
            kind: self.text(),
            key: self.text(),
            severity: if self.byte() > 127 { Severity::Info } else { Severity::Critical },
            message: self.text(),
            metadata: self.text(),
        }
    }

    fn outcome(&mut self) -> types::Outcome {
        match self.byte() % 4 {
            0 => types::Outcome::Resolved(self.option()),
            1 => types::Outcome::Awaiting(self.option()),
            2 => types::Outcome::Snoozed(self.number()),
            _ => types::Outcome::Other(self.text()),
        }
    }

    fn error(&mut self) -> types::Error {
        types::Error { code: self.text(), message: self.text() }
    }

    fn failure(&mut self) -> types::Failure {
        match self.byte() % 4 {
            0 => types::Failure::Transient(self.error()),
            1 => {
                types::Failure::Throttled(types::Throttle { retry_after: self.number(), error: self.error() })
            }
            2 => types::Failure::Permanent(self.error()),
            _ => types::Failure::Other(self.text()),
        }
    }

    fn page(&mut self) -> types::Page {
        let found = |draw: &mut Self| types::Found { key: draw.text(), payload: draw.text() };
        types::Page { items: self.list(found), next: self.option() }
    }
}
