use domain::scope::ScopeError;
use domain::text::check_key;

use super::{NOTHING_YET, bad_key};
use crate::guest::bindings::events::{Error, Host};
use crate::guest::state::State;

/// `tidemill:job/events`: buffered by the scope until the attempt's outcome is committed.
impl Host for State {
    async fn publish(&mut self, topic: String, key: String, payload: String) -> Result<String, Error> {
        let Some(granted) = &self.granted else {
            return Err(Error::Denied(NOTHING_YET.to_owned()));
        };
        if !granted.job.grants.topics.contains(&topic) {
            return Err(Error::Denied(format!("topic {topic:?} is not granted")));
        }
        check_key(&key).map_err(bad_key!("the event's key", &key))?;
        if payload.len() > self.limits.payload_bytes {
            return Err(Error::Limit(format!(
                "the event's payload has {} bytes, {} are allowed",
                payload.len(),
                self.limits.payload_bytes
            )));
        }
        if payload.contains('\0') {
            return Err(Error::Denied("the event's payload holds a zero byte".to_owned()));
        }
        let published = granted.scope.publish(&topic, &key, &payload).await;
        published.map(|id| id.to_string()).map_err(error)
    }
}

fn error(error: ScopeError) -> Error {
    match error {
        ScopeError::Denied(why) | ScopeError::Refused(why) => Error::Denied(why),
        ScopeError::Limit(why) => Error::Limit(why),
        other => Error::Other(other.to_string()),
    }
}
