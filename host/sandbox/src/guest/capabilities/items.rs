use domain::effect::NewItem;
use domain::scope::ScopeError;
use domain::text::check_key;

use super::{NOTHING_YET, bad_key};
use crate::guest::bindings::items::{Error, Host};
use crate::guest::state::State;

/// `tidemill:job/items`: buffered by the scope until the attempt's outcome is committed.
impl Host for State {
    async fn enqueue(&mut self, job: String, key: String, payload: String) -> Result<(), Error> {
        let Some(granted) = &self.granted else {
            return Err(Error::Denied(NOTHING_YET.to_owned()));
        };
        check_key(&key).map_err(bad_key!("the item's key", &key))?;
        let denied = || Error::Denied(format!("adding items to job {job:?} is not granted"));
        let job = job.parse().map_err(|_| denied())?;
        granted.scope.enqueue(NewItem { job, key, payload }).await.map_err(error)
    }
}

fn error(error: ScopeError) -> Error {
    match error {
        ScopeError::Denied(why) | ScopeError::Refused(why) => Error::Denied(why),
        ScopeError::Limit(why) => Error::Limit(why),
        other => Error::Other(other.to_string()),
    }
}
