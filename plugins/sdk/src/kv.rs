//! The job's own key-value store. Values are stored as JSON, and only if the attempt's outcome is `Ok`.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::bindings::tidemill::job::kv as beyond;
use crate::bindings::wasi::keyvalue::store::{self, Bucket, Error};

/// The bucket that every job has.
const BUCKET: &str = "default";

/// The value of a key, if there is one.
pub fn get<T: DeserializeOwned>(key: &str) -> Result<Option<T>, Failure> {
    let Some(bytes) = bucket(key)?.get(key).map_err(|error| failure(key, error))? else {
        return Ok(None);
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| {
        Failure::permanent(
            "kv-unreadable",
            format!("the value of key {key:?} does not have the form expected: {error}"),
        )
    })
}

/// Sets a key.
pub fn set(key: &str, value: &impl Serialize) -> Result<(), Failure> {
    bucket(key)?.set(key, &json(key, value)?).map_err(|error| failure(key, error))
}

/// Sets a key with a time to live, which counts from the commit of the attempt.
pub fn set_for(key: &str, value: &impl Serialize, ttl: Duration) -> Result<(), Failure> {
    beyond::set_for(BUCKET, key, &json(key, value)?, millis(ttl)).map_err(|error| trouble(key, error))
}

/// Sets a key if its value is `expected`; `None` means that the key does not exist. Returns `false` if the
/// value is different: read it again. If another attempt changes the key before this one is committed, this
/// attempt is undone and repeated.
pub fn compare_and_set<T: Serialize>(
    key: &str,
    expected: Option<&T>,
    value: Option<&T>,
) -> Result<bool, Failure> {
    let expected = expected.map(|value| json(key, value)).transpose()?;
    let value = value.map(|value| json(key, value)).transpose()?;
    beyond::compare_and_set(BUCKET, key, expected.as_deref(), value.as_deref(), None)
        .map_err(|error| trouble(key, error))
}

/// Removes a key. A missing key is not an error.
pub fn delete(key: &str) -> Result<(), Failure> {
    bucket(key)?.delete(key).map_err(|error| failure(key, error))
}

fn json(key: &str, value: &impl Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| {
        Failure::permanent("kv-unwritable", format!("the value of key {key:?} cannot be written: {error}"))
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn bucket(key: &str) -> Result<Bucket, Failure> {
    store::open(BUCKET).map_err(|error| failure(key, error))
}

fn failure(key: &str, error: Error) -> Failure {
    match error {
        Error::NoSuchStore => {
            Failure::permanent("kv-no-such-store", format!("key {key:?}: the host has no bucket {BUCKET:?}"))
        }
        Error::AccessDenied => Failure::permanent(
            "kv-denied",
            format!("key {key:?}: grant `keyvalue` to the job, and ask for it in describe"),
        ),
        // The interface has no error case for a key that the host never accepts.
        Error::Other(reason) if reason.starts_with("refused: ") => {
            Failure::permanent("kv-denied", format!("key {key:?}: {reason}"))
        }
        Error::Other(reason) => Failure::transient("kv-failed", format!("key {key:?}: {reason}")),
    }
}

fn trouble(key: &str, error: beyond::Error) -> Failure {
    match error {
        beyond::Error::Denied(reason) => Failure::permanent("kv-denied", format!("key {key:?}: {reason}")),
        beyond::Error::Limit(reason) => Failure::transient("kv-limit", format!("key {key:?}: {reason}")),
        beyond::Error::Unavailable(reason) => {
            Failure::transient("kv-unavailable", format!("key {key:?}: {reason}"))
        }
        beyond::Error::Other(reason) => Failure::transient("kv-failed", format!("key {key:?}: {reason}")),
    }
}
