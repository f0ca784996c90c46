use domain::alert::{self as domain_alert, Severity};
use domain::effect::Effect;

use super::convert_errors;
use crate::guest::bindings::alerts::{self, Alert, Error, Host};
use crate::guest::state::GuestState;

convert_errors!(Denied => Denied, Refused => Denied, Limit => Limit);

/// `tidemill:job/alerts`: buffered by the scope until the attempt's outcome is committed.
impl Host for GuestState {
    async fn raise(&mut self, alert: Alert) -> Result<(), Error> {
        let Alert { kind, key, severity, message, metadata } = alert;
        let severity = severity_in(severity);
        let alert = domain_alert::Alert { kind, key, severity, message, metadata };
        self.granted()?.scope.add(Effect::Alert(alert)).await?;
        Ok(())
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
