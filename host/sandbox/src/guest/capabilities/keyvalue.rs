use domain::bounds::check_key;
use domain::job::Capability;
use domain::scope::{Scope, ScopeError};
use wasmtime::component::Resource;

use super::NOTHING_YET;
use crate::guest::bindings::keyvalue::{Error, Host, HostBucket, KeyResponse};
use crate::guest::state::GuestState;

/// A bucket that a guest has opened. Buckets belong to the job, and exist when they hold a value. Each call
/// uses the scope of the current attempt: an instance that is reused may still hold a bucket of the one before.
pub struct Bucket {
    name: String,
}

/// `wasi:keyvalue/store`: reads, and buffered writes, of the attempt's scope.
impl Host for GuestState {
    async fn open(&mut self, identifier: String) -> wasmtime::Result<Result<Resource<Bucket>, Error>> {
        Ok(match self.opened(identifier) {
            Ok(bucket) => Ok(self.table.push(bucket)?),
            Err(error) => Err(error.into()),
        })
    }
}

impl HostBucket for GuestState {
    async fn get(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        let (name, scope) = self.bucket(&bucket)?;
        Ok(scope.kv_get(name, &key).await.map_err(Error::from))
    }

    async fn set(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), Error>> {
        let (name, scope) = self.bucket(&bucket)?;
        Ok(scope.kv_set(name, &key, Some(value)).await.map_err(Error::from))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> wasmtime::Result<Result<(), Error>> {
        let (name, scope) = self.bucket(&bucket)?;
        Ok(scope.kv_set(name, &key, None).await.map_err(Error::from))
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
        let (name, scope) = self.bucket(&bucket)?;
        let page = scope.kv_keys(name, cursor.unwrap_or(0)).await;
        Ok(page.map(|page| KeyResponse { keys: page.keys, cursor: page.next }).map_err(Error::from))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl GuestState {
    fn opened(&self, name: String) -> Result<Bucket, ScopeError> {
        let granted = self.granted()?;
        granted.job.check_granted(Capability::KeyValue)?;
        check_key("a bucket name", &name)?;
        Ok(Bucket { name })
    }

    fn bucket(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<(&str, &dyn Scope)> {
        let Bucket { name } = self.table.get(bucket)?;
        // Only an attempt opens buckets, and only an attempt uses the instance afterwards.
        let granted = self.granted.as_ref().ok_or_else(|| wasmtime::Error::msg(NOTHING_YET))?;
        Ok((name, granted.scope.as_ref()))
    }
}

/// The interface has no case for calls that fail each time they are repeated.
impl From<ScopeError> for Error {
    fn from(error: ScopeError) -> Error {
        match error {
            ScopeError::Denied(_) => Error::AccessDenied,
            other => Error::Other(other.to_string()),
        }
    }
}
