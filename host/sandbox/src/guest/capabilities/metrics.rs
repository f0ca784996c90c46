use domain::effect::{Change, Metric};
use domain::scope::ScopeError;

use super::NOTHING_YET;
use crate::guest::bindings::metrics::{Error, Host};
use crate::guest::state::State;

/// `tidemill:job/metrics`: buffered by the scope, published once the attempt's outcome is committed.
impl Host for State {
    async fn add(&mut self, name: String, labels: Vec<(String, String)>, by: u64) -> Result<(), Error> {
        self.measure(Metric { name, labels, change: Change::Add(by) }).await
    }

    async fn set(&mut self, name: String, labels: Vec<(String, String)>, value: f64) -> Result<(), Error> {
        self.measure(Metric { name, labels, change: Change::Set(value) }).await
    }
}

impl State {
    async fn measure(&mut self, metric: Metric) -> Result<(), Error> {
        let Some(granted) = &self.granted else {
            return Err(Error::Denied(NOTHING_YET.to_owned()));
        };
        if let Some(why) = metric.refused() {
            return Err(Error::Name(why));
        }
        granted.scope.measure(metric).await.map_err(error)
    }
}

fn error(error: ScopeError) -> Error {
    match error {
        ScopeError::Denied(why) | ScopeError::Refused(why) => Error::Denied(why),
        ScopeError::Limit(why) => Error::Limit(why),
        other => Error::Other(other.to_string()),
    }
}
