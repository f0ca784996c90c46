use domain::effect::Effect;

use super::convert_errors;
use crate::guest::bindings::notes::{Error, Host};
use crate::guest::state::State;

convert_errors!(Denied => Denied, Refused => Denied, Limit => Limit);

/// `tidemill:job/notes`: buffered by the scope until the attempt's outcome is committed.
impl Host for State {
    async fn add(&mut self, text: String) -> Result<(), Error> {
        self.granted()?.scope.add(Effect::Note(text)).await?;
        Ok(())
    }
}
