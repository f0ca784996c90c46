//! One call of a plugin: create a `Store`, set its limits, make the call, drop the `Store`.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use domain::failure::{ErrorInfo, Failure};
use domain::limits::Limits;
use domain::runner::Usage;
use tokio::sync::Semaphore;
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::guest::bindings::{Plugin, PluginPre};
use crate::guest::cpu_permits::{CpuPermits, FREE};
use crate::guest::log::LogSource;
use crate::guest::meter::{CpuMeter, Metered};
use crate::guest::state::{AttemptContext, GuestState, SharedResources};
use crate::guest::trap::{self, CpuLimit};

/// Runs calls of plugins in a bounded number of slots.
pub struct CallSlots {
    engine: Engine,
    outside: SharedResources,
    /// One permit per slot of the pool. Later calls wait here; the wait does not count against their wall
    /// time.
    slots: Semaphore,
    cpu_permits: CpuPermits,
}

/// One call: the plugin to call, and the job and log source it is called for.
pub struct CallRequest<'a> {
    pub plugin: &'a PluginPre<GuestState>,
    pub limits: &'a Limits,
    pub granted: Option<AttemptContext>,
    pub log_source: LogSource,
}

pub struct CallResult<T> {
    pub result: Result<T, Failure>,
    /// A failure of the host during the call.
    pub host_failure: Option<ErrorInfo>,
    pub usage: Usage,
    pub log: String,
}

type Called<'a, T> = Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send + 'a>>;

impl CallSlots {
    pub fn new(engine: Engine, outside: SharedResources, attempts_max: u32) -> CallSlots {
        CallSlots {
            engine,
            outside,
            slots: Semaphore::new(attempts_max as usize),
            cpu_permits: CpuPermits::new(),
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub async fn call<T>(
        &self,
        visit: CallRequest<'_>,
        call: impl for<'a> FnOnce(&'a Plugin, &'a mut Store<GuestState>) -> Called<'a, T> + Send,
    ) -> CallResult<T> {
        // The semaphore is never closed, so `acquire` always succeeds.
        let _slot = self.slots.acquire().await;
        let started = Instant::now();
        let wall_time = visit.limits.wall_time;
        let mut store = self.store(visit.limits, visit.granted, visit.log_source);

        // Instantiation also runs guest code.
        let meter = store.data().meter.clone();
        let whole = async {
            let plugin = visit.plugin.instantiate_async(&mut store).await?;
            call(&plugin, &mut store).await
        };
        let ended = tokio::time::timeout(wall_time, Metered::new(whole, meter)).await;

        let state = store.data();
        state.finish_output();
        let result = match ended {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(trap::failure(&error, state)),
            Ok(Err(_panic)) => Err(trap::host_panic()),
            Err(_elapsed) => Err(trap::wall_timeout(wall_time)),
        };
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let usage = Usage {
            wall_us: micros(started.elapsed()),
            cpu_us: micros(state.meter.used()),
            memory_bytes_max: state.limiter.memory_bytes_high(),
            host_calls: state.tally.calls_so_far(),
            host_bytes: state.tally.bytes_so_far(),
        };
        let log = state.log().take();
        CallResult { result, host_failure: state.tally.host_failure(), usage, log }
    }

    pub fn store(
        &self,
        limits: &Limits,
        granted: Option<AttemptContext>,
        log_source: LogSource,
    ) -> Store<GuestState> {
        let state = GuestState::new(granted, limits, &self.outside, log_source);
        let mut store = Store::new(&self.engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(limits.hostcall_bytes);
        store.set_max_component_handles(limits.handles);
        // At each tick the guest yields to other tasks, including its own timeout.
        let cpu_time = limits.cpu_time;
        let cpu_permits = self.cpu_permits.clone();
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |store| match over(store.data(), cpu_time) {
            true => Err(CpuLimit(cpu_time).into()),
            false => {
                let aside = step_aside(cpu_permits.clone(), store.data().meter.clone());
                Ok(UpdateDeadline::YieldCustom(1, Box::pin(aside)))
            }
        });
        store
    }
}

/// Yields. A guest that has used more than `FREE` continues when it gets a fair-scheduling permit.
async fn step_aside(cpu_permits: CpuPermits, meter: CpuMeter) {
    tokio::task::yield_now().await;
    if meter.used() > FREE {
        meter.take_turn(cpu_permits.next().await);
    }
}

fn over(state: &GuestState, cpu_time: Duration) -> bool {
    state.meter.used() > cpu_time
}
