use domain::effect::{AuditRecord, Effect};

use super::convert_errors;
use crate::guest::bindings::audit::{Error, Host};
use crate::guest::state::GuestState;

convert_errors!(Denied => Denied, Refused => Denied, Limit => Limit);

/// `tidemill:job/audit`: buffered by the scope until the attempt's outcome is committed.
impl Host for GuestState {
    async fn record_action(&mut self, action: String, subject: String, detail: String) -> Result<(), Error> {
        let record = AuditRecord { action, subject, detail };
        self.granted()?.scope.add(Effect::Audit(record)).await?;
        Ok(())
    }
}
