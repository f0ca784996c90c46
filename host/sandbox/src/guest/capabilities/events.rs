use domain::effect::{Effect, Event};

use super::convert_errors;
use crate::guest::bindings::events::{Error, Host};
use crate::guest::state::GuestState;

convert_errors!(Denied => Denied, Refused => Denied, Limit => Limit);

/// `tidemill:job/events`: buffered by the scope until the attempt's outcome is committed.
impl Host for GuestState {
    async fn publish(&mut self, topic: String, key: String, payload: String) -> Result<String, Error> {
        let event = Effect::Event(Event::new(topic, key, payload));
        let id = self.granted()?.scope.add(event).await?;
        Ok(id.map(|id| id.to_string()).unwrap_or_default())
    }
}
