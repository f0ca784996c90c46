use domain::scope::Swap;
use jiff::SignedDuration;

use super::convert_errors;
use crate::guest::bindings::kv::{Error, Host};
use crate::guest::state::GuestState;

/// Longest time to live of a value: 10 years.
const TTL_MS_MAX: u64 = 10 * 365 * 24 * 60 * 60 * 1_000;

convert_errors!(Denied => Denied, Refused => Denied, Limit => Limit, Unavailable => Unavailable, Store => Unavailable);

/// `tidemill:job/kv`: buffered by the scope until the attempt's outcome is committed.
impl Host for GuestState {
    async fn set_for(&mut self, bucket: String, key: String, value: Vec<u8>, ttl: u64) -> Result<(), Error> {
        let scope = &self.granted()?.scope;
        Ok(scope.kv_set_for(&bucket, &key, value, time(ttl)?).await?)
    }

    async fn compare_and_set(
        &mut self,
        bucket: String,
        key: String,
        expected: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        ttl: Option<u64>,
    ) -> Result<bool, Error> {
        let scope = &self.granted()?.scope;
        let swap = Swap { expected, value, ttl: ttl.map(time).transpose()? };
        Ok(scope.kv_compare_and_set(&bucket, &key, swap).await?)
    }
}

fn time(ms: u64) -> Result<SignedDuration, Error> {
    match i64::try_from(ms) {
        Ok(millis) if (1..=TTL_MS_MAX).contains(&ms) => Ok(SignedDuration::from_millis(millis)),
        _ => Err(Error::Limit(format!("{ms} ms is not a valid time to live: use 1 to {TTL_MS_MAX}"))),
    }
}
