//! The job's own key-value store. Values are kept as JSON, and only if the attempt's outcome is `Ok`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::bindings::wasi::keyvalue::store::{self, Bucket, Error};

/// The one bucket that every job has.
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
    let bytes = serde_json::to_vec(value).map_err(|error| {
        Failure::permanent("kv-unwritable", format!("the value of key {key:?} cannot be written: {error}"))
    })?;
    bucket(key)?.set(key, &bytes).map_err(|error| failure(key, error))
}

/// Removes a key; one that is not there is no error.
pub fn delete(key: &str) -> Result<(), Failure> {
    bucket(key)?.delete(key).map_err(|error| failure(key, error))
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
        Error::Other(reason) => Failure::transient("kv-failed", format!("key {key:?}: {reason}")),
    }
}
