//! Named locks across all jobs, all hosts and the API. A lock is held until the attempt ends.

use crate::Failure;
use crate::bindings::tidemill::job::locks::{self, Error};

/// Delay before a lock is tried again, unless the job sets another.
const RETRY_MS: u64 = 5_000;

/// Tries to take a lock. Returns its fencing token, or `None` while another holder has it. Take the lock
/// before you read the data it protects. Each token is higher than all earlier ones: send it to services that
/// can refuse a lower one.
pub fn try_acquire(name: &str) -> Result<Option<u64>, Failure> {
    locks::try_acquire(name).map_err(|error| match error {
        Error::Denied(reason) => Failure::permanent("lock-denied", format!("lock {name:?}: {reason}")),
        Error::Limit(reason) => Failure::transient("lock-limit", format!("lock {name:?}: {reason}")),
        Error::Unavailable(reason) => {
            Failure::transient("lock-unavailable", format!("lock {name:?}: {reason}"))
        }
        Error::Other(reason) => Failure::transient("lock-failed", format!("lock {name:?}: {reason}")),
    })
}

/// The same, but ends the attempt if another holder has the lock. The attempt is repeated after 5 s, which
/// does not count.
pub fn acquire(name: &str) -> Result<u64, Failure> {
    try_acquire(name)?.ok_or_else(|| {
        Failure::throttled(RETRY_MS, "lock-held", format!("lock {name:?}: somebody else holds it"))
    })
}
