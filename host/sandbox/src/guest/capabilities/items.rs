use domain::effect::{Effect, NewItem};

use super::convert_errors;
use crate::guest::bindings::items::{Error, Host};
use crate::guest::state::GuestState;

convert_errors!(Denied => Denied, Refused => Denied, Limit => Limit);

/// `tidemill:job/items`: buffered by the scope until the attempt's outcome is committed.
impl Host for GuestState {
    async fn enqueue(&mut self, job: String, key: String, payload: String) -> Result<(), Error> {
        let granted = self.granted()?;
        let denied = || granted.job.not_granted(format!("to add items to job {job:?}"));
        let job = job.parse().map_err(|_| denied())?;
        granted.scope.add(Effect::Item(NewItem { job, key, payload })).await?;
        Ok(())
    }
}
