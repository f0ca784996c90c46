//! Entry point for `cargo xtask bench guest` (feature `measuring`, never enabled in shipped builds): times the
//! parts of a call separately.

use std::time::{Duration, Instant};

use domain::item::Claimed;
use domain::runner::Call;

use crate::guest::attempt::CallRequest;
use crate::guest::convert;
use crate::sandbox::Sandbox;

/// The duration of each part of one call with a fresh instance.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// Creation of the wasmtime `Store` and of the state that the host keeps in it.
    pub store: Duration,
    pub instantiate: Duration,
    pub call: Duration,
    /// The drop of the `Store`, which clears the memory for the next instance.
    pub release: Duration,
}

/// Makes one attempt of `call` and times its parts. `None` if the plugin has no active version or fails.
pub async fn parts(sandbox: &Sandbox, call: Call<Claimed>) -> Option<Parts> {
    let version = sandbox.active(&call.job)?;
    let Call { job, input, scope, .. } = call;
    let subject = input.key.clone();
    let item = convert::item(&job, input);
    let start = Instant::now();
    let CallRequest { plugin, limits, granted, log_source, .. } =
        Sandbox::request(&version, &job, scope, subject, None);
    let mut store = sandbox.room().store(limits, granted, log_source);
    let created = Instant::now();
    let instance = plugin.instantiate_async(&mut store).await.ok()?;
    let instantiated = Instant::now();
    instance.tidemill_job_job().call_process(&mut store, &item).await.ok()?.ok()?;
    let called = Instant::now();
    drop(store);
    let released = Instant::now();
    Some(Parts {
        store: created - start,
        instantiate: instantiated - created,
        call: called - instantiated,
        release: released - called,
    })
}

/// The memory that idle slots of the pool keep.
pub fn kept_bytes(sandbox: &Sandbox) -> usize {
    let Some(kept) = sandbox.pool_metrics() else { return 0 };
    kept.unused_memory_bytes_resident()
        + kept.unused_table_bytes_resident()
        + kept.unused_stack_bytes_resident().unwrap_or(0)
}
