use crate::guest::bindings::config::{Error, Host};
use crate::guest::state::GuestState;

/// `wasi:config/store`: the job's config table. During `describe` it is empty.
impl Host for GuestState {
    fn get(&mut self, key: String) -> Result<Option<String>, Error> {
        Ok(self.granted.as_ref().and_then(|granted| granted.job.config.get(&key).cloned()))
    }

    fn get_all(&mut self) -> Result<Vec<(String, String)>, Error> {
        let config = self.granted.as_ref().map(|granted| &granted.job.config);
        Ok(config.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
