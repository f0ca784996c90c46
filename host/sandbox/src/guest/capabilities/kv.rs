use domain::job::Capability;
use domain::scope::{Scope, ScopeError, Swap};
use domain::text::check_key;
use jiff::SignedDuration;

use super::{NOTHING_YET, bad_key};
use crate::guest::bindings::kv::{Error, Host};
use crate::guest::state::State;

/// Longest time to live of a value: 10 years.
const TTL_MS_MAX: u64 = 10 * 365 * 24 * 60 * 60 * 1_000;

/// `tidemill:job/kv`: buffered by the scope until the attempt's outcome is committed.
impl Host for State {
    async fn set_for(&mut self, bucket: String, key: String, value: Vec<u8>, ttl: u64) -> Result<(), Error> {
        let scope = self.bounded(&bucket, &key, Some(&value))?;
        scope.kv_set_for(&bucket, &key, value, time(ttl)?).await.map_err(error)
    }

    async fn compare_and_set(
        &mut self,
        bucket: String,
        key: String,
        expected: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        ttl: Option<u64>,
    ) -> Result<bool, Error> {
        let scope = self.bounded(&bucket, &key, value.as_ref())?;
        let swap = Swap { expected, value, ttl: ttl.map(time).transpose()? };
        scope.kv_compare_and_set(&bucket, &key, swap).await.map_err(error)
    }
}

impl State {
    fn bounded(&self, bucket: &str, key: &str, value: Option<&Vec<u8>>) -> Result<&dyn Scope, Error> {
        let Some(granted) = &self.granted else {
            return Err(Error::Denied(NOTHING_YET.to_owned()));
        };
        if !granted.job.grants.allow(Capability::KeyValue) {
            return Err(Error::Denied("keyvalue is not granted".to_owned()));
        }
        check_key(bucket).map_err(bad_key!("the bucket's key", bucket))?;
        check_key(key).map_err(bad_key!("the key", key))?;
        let (bytes, bytes_max) = (value.map_or(0, Vec::len), self.limits.kv_value_bytes);
        if bytes > bytes_max {
            return Err(Error::Limit(format!("the value has {bytes} bytes, {bytes_max} are allowed")));
        }
        Ok(&*granted.scope)
    }
}

fn time(ms: u64) -> Result<SignedDuration, Error> {
    match i64::try_from(ms) {
        Ok(millis) if (1..=TTL_MS_MAX).contains(&ms) => Ok(SignedDuration::from_millis(millis)),
        _ => Err(Error::Limit(format!("{ms} ms is not a valid time to live: use 1 to {TTL_MS_MAX}"))),
    }
}

fn error(error: ScopeError) -> Error {
    match error {
        ScopeError::Denied(why) | ScopeError::Refused(why) => Error::Denied(why),
        ScopeError::Limit(why) => Error::Limit(why),
        ScopeError::Unavailable(why) | ScopeError::Store(why) => Error::Unavailable(why),
        other => Error::Other(other.to_string()),
    }
}
