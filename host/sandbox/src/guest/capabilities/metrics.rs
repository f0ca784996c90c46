use domain::effect::{Change, Effect, Metric};

use super::convert_errors;
use crate::guest::bindings::metrics::{Error, Host};
use crate::guest::state::GuestState;

convert_errors!(Denied => Denied, Refused => Name, Limit => Limit);

/// `tidemill:job/metrics`: buffered by the scope, published once the attempt's outcome is committed.
impl Host for GuestState {
    async fn add(&mut self, name: String, labels: Vec<(String, String)>, by: u64) -> Result<(), Error> {
        let metric = Metric { name, labels, change: Change::Add(by) };
        self.granted()?.scope.add(Effect::Metric(metric)).await?;
        Ok(())
    }

    async fn set(&mut self, name: String, labels: Vec<(String, String)>, value: f64) -> Result<(), Error> {
        let metric = Metric { name, labels, change: Change::Set(value) };
        self.granted()?.scope.add(Effect::Metric(metric)).await?;
        Ok(())
    }
}
