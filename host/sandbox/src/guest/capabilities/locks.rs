use domain::scope::ScopeError;

use super::NOTHING_YET;
use crate::guest::bindings::locks::{Error, Host};
use crate::guest::state::State;

/// `tidemill:job/locks`: acquired immediately by the scope, held until the attempt ends.
impl Host for State {
    async fn try_acquire(&mut self, name: String) -> Result<Option<u64>, Error> {
        let Some(granted) = &self.granted else {
            return Err(Error::Denied(NOTHING_YET.to_owned()));
        };
        granted.scope.lock(&name).await.map_err(error)
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
