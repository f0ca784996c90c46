use domain::job::Capability;
use domain::scope::{Scope, ScopeError};
use domain::text::{BadName, check_key};
use wasmtime::component::Resource;

use crate::guest::bindings::keyvalue::{Error, Host, HostBucket, KeyResponse};
use crate::guest::convert::shown;
use crate::guest::state::State;

/// A bucket that a guest has opened. Buckets belong to the job, and exist when they hold a value.
pub struct Bucket {
    name: String,
}

/// `wasi:keyvalue/store`: reads, and buffered writes, of the attempt's scope.
impl Host for State {
    async fn open(&mut self, identifier: String) -> wasmtime::Result<Result<Resource<Bucket>, Error>> {
        if self.keyvalue().is_none() {
            return Ok(Err(Error::AccessDenied));
        }
        if let Err(bad) = check_key(&identifier) {
            return Ok(Err(refused("bucket", &identifier, &bad)));
        }
        Ok(Ok(self.table.push(Bucket { name: identifier })?))
    }
}

impl HostBucket for State {
    async fn get(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        let bucket = &self.table.get(&bucket)?.name;
        Ok(match self.reach(&key) {
            Ok(scope) => scope.kv_get(bucket, &key).await.map_err(error),
            Err(error) => Err(error),
        })
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let bucket = &self.table.get(&bucket)?.name;
        let bytes_max = self.limits.kv_value_bytes;
        if value.len() > bytes_max {
            let why = format!("limit: the value has {} bytes, {bytes_max} are allowed", value.len());
            return Ok(Err(Error::Other(why)));
        }
        Ok(match self.reach(&key) {
            Ok(scope) => scope.kv_set(bucket, &key, Some(value)).await.map_err(error),
            Err(error) => Err(error),
        })
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> wasmtime::Result<Result<(), Error>> {
        let bucket = &self.table.get(&bucket)?.name;
        Ok(match self.reach(&key) {
            Ok(scope) => scope.kv_set(bucket, &key, None).await.map_err(error),
            Err(error) => Err(error),
        })
    }

    async fn exists(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<bool, Error>> {
        let value = HostBucket::get(self, bucket, key).await?;
        Ok(value.map(|value| value.is_some()))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<u64>,
    ) -> wasmtime::Result<Result<KeyResponse, Error>> {
        let bucket = &self.table.get(&bucket)?.name;
        let Some(scope) = self.keyvalue() else {
            return Ok(Err(Error::AccessDenied));
        };
        let page = scope.kv_keys(bucket, cursor.unwrap_or(0)).await;
        Ok(page.map(|page| KeyResponse { keys: page.keys, cursor: page.next }).map_err(error))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl State {
    fn keyvalue(&self) -> Option<&dyn Scope> {
        let granted =
            self.granted.as_ref().filter(|granted| granted.job.grants.allow(Capability::KeyValue))?;
        Some(&*granted.scope)
    }

    fn reach(&self, key: &str) -> Result<&dyn Scope, Error> {
        check_key(key).map_err(|bad| refused("key", key, &bad))?;
        self.keyvalue().ok_or(Error::AccessDenied)
    }
}

fn error(error: ScopeError) -> Error {
    match error {
        ScopeError::Denied(_) => Error::AccessDenied,
        other => Error::Other(other.to_string()),
    }
}

/// The interface has no error case for calls that fail each time they are repeated.
fn refused(what: &str, key: &str, bad: &BadName) -> Error {
    let kind = match bad {
        BadName::Hidden(_) => "refused",
        BadName::Length { .. } => "limit",
    };
    Error::Other(format!("{kind}: the {what} {} is refused: {bad}", shown(key, 128)))
}
