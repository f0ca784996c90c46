//! An instance of a plugin in its own wasmtime `Store`.

use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use crate::guest::bindings::Plugin;
use crate::guest::log::LogSource;
use crate::guest::state::{AttemptContext, GuestState, SharedResources};

/// Most calls of one instance.
const CALLS_MAX: u32 = 1_000;
/// An instance that was created longer ago gets no further call.
const AGE_MAX: Duration = Duration::from_secs(60);

pub struct Instance {
    pub store: Store<GuestState>,
    /// `None` before the first call, and after a call that did not end well.
    pub plugin: Option<Plugin>,
    created: Instant,
    calls: u32,
    /// Released after the store, which returns its memory to the pool.
    _slot: Option<OwnedSemaphorePermit>,
}

impl Instance {
    pub fn new(store: Store<GuestState>, slot: Option<OwnedSemaphorePermit>) -> Instance {
        Instance { store, plugin: None, created: Instant::now(), calls: 0, _slot: slot }
    }

    /// Begins the next attempt on an instance that [`Instance::kept`] returned.
    pub fn begin(&mut self, granted: AttemptContext, outside: &SharedResources, log_source: LogSource) {
        self.store.data_mut().begin(granted, outside, log_source);
        self.store.set_epoch_deadline(1);
    }

    /// Ends an attempt whose call returned. Returns the instance if another attempt may use it.
    pub fn kept(mut self) -> Option<Instance> {
        self.calls += 1;
        let usable = self.store.data_mut().end()
            && self.plugin.is_some()
            && self.calls < CALLS_MAX
            && self.created.elapsed() < AGE_MAX;
        usable.then_some(self)
    }
}
