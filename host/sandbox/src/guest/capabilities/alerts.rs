use domain::alert::{self as told, Severity};
use domain::scope::ScopeError;

use super::NOTHING_YET;
use crate::guest::bindings::alerts::{self, Alert, Error, Host};
use crate::guest::state::State;

/// `tidemill:job/alerts`: buffered by the scope until the attempt's outcome is committed.
impl Host for State {
    async fn raise(&mut self, alert: Alert) -> Result<(), Error> {
        let Some(granted) = &self.granted else {
            return Err(Error::Denied(NOTHING_YET.to_owned()));
        };
        let Alert { kind, key, severity, message, metadata } = alert;
        let severity = severity_in(severity);
        let alert = told::Alert { kind, key, severity, message, metadata };
        granted.scope.alert(alert).await.map_err(error)
    }
}

fn severity_in(severity: alerts::Severity) -> Severity {
    match severity {
        alerts::Severity::Info => Severity::Info,
        alerts::Severity::Warning => Severity::Warning,
        alerts::Severity::Error => Severity::Error,
        alerts::Severity::Critical => Severity::Critical,
    }
}

fn error(error: ScopeError) -> Error {
    match error {
        ScopeError::Denied(why) | ScopeError::Refused(why) => Error::Denied(why),
        ScopeError::Limit(why) => Error::Limit(why),
        other => Error::Other(other.to_string()),
    }
}
