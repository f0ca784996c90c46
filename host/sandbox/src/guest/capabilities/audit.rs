use domain::effect::AuditRecord;
use domain::scope::ScopeError;

use super::NOTHING_YET;
use crate::guest::bindings::audit::{Error, Host};
use crate::guest::state::State;

/// `tidemill:job/audit`: buffered by the scope until the attempt's outcome is committed.
impl Host for State {
    async fn record_action(&mut self, action: String, subject: String, detail: String) -> Result<(), Error> {
        let Some(granted) = &self.granted else {
            return Err(Error::Denied(NOTHING_YET.to_owned()));
        };
        granted.scope.record(AuditRecord { action, subject, detail }).await.map_err(error)
    }
}

fn error(error: ScopeError) -> Error {
    match error {
        ScopeError::Denied(why) | ScopeError::Refused(why) => Error::Denied(why),
        ScopeError::Limit(why) => Error::Limit(why),
        other => Error::Other(other.to_string()),
    }
}
