use super::convert_errors;
use crate::guest::bindings::locks::{Error, Host};
use crate::guest::state::GuestState;

convert_errors!(Denied => Denied, Refused => Denied, Limit => Limit, Unavailable => Unavailable, Store => Unavailable);

/// `tidemill:job/locks`: acquired immediately by the scope, held until the attempt ends.
impl Host for GuestState {
    async fn try_acquire(&mut self, name: String) -> Result<Option<u64>, Error> {
        Ok(self.granted()?.scope.lock(&name).await?)
    }
}
