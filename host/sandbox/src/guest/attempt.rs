//! One call of a plugin: create a `Store`, set its limits, make the call, drop the `Store`, unless another item
//! may use it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::failure::{ErrorInfo, Failure};
use domain::limits::Limits;
use domain::runner::Usage;
use tokio::sync::Semaphore;
use wasmtime::{Engine, Store, UpdateDeadline};

use crate::guest::bindings::{Plugin, PluginPre};
use crate::guest::cpu_permits::{CpuPermits, FREE};
use crate::guest::instance::Instance;
use crate::guest::log::LogSource;
use crate::guest::meter::{CpuMeter, Metered};
use crate::guest::state::{AttemptContext, GuestState, SharedResources};
use crate::guest::trap::{self, CpuLimit};

/// Runs calls of plugins in a bounded number of slots.
pub struct CallSlots {
    engine: Engine,
    outside: SharedResources,
    /// One permit per slot of the pool, which an instance holds until it is dropped. Later calls wait here; the
    /// wait does not count against their wall time.
    slots: Arc<Semaphore>,
    cpu_permits: CpuPermits,
}

/// One call: the plugin to call, and the job and log source it is called for.
pub struct CallRequest<'a> {
    pub plugin: &'a PluginPre<GuestState>,
    pub limits: &'a Limits,
    pub granted: Option<AttemptContext>,
    pub log_source: LogSource,
    pub reuse: Reuse,
}

/// Which instance a call uses, and whether the instance remains.
pub enum Reuse {
    /// A new one, which is dropped at the end of the call.
    Never,
    /// The one that an earlier call left, or a new one. It remains if the call ends well.
    Of(Option<Instance>),
}

pub struct CallResult<T> {
    pub result: Result<T, Failure>,
    /// A failure of the host during the call.
    pub host_failure: Option<ErrorInfo>,
    pub usage: Usage,
    pub log: String,
    /// The instance, if another call may use it.
    pub instance: Option<Instance>,
}

type Called<'a, T> = Pin<Box<dyn Future<Output = wasmtime::Result<T>> + Send + 'a>>;

impl CallSlots {
    pub fn new(engine: Engine, outside: SharedResources, attempts_max: u32) -> CallSlots {
        CallSlots {
            engine,
            outside,
            slots: Arc::new(Semaphore::new(attempts_max as usize)),
            cpu_permits: CpuPermits::new(),
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub async fn call<T>(
        &self,
        request: CallRequest<'_>,
        call: impl for<'a> FnOnce(&'a Plugin, &'a mut Store<GuestState>) -> Called<'a, T> + Send,
    ) -> CallResult<T> {
        let CallRequest { plugin: pre, limits, granted, log_source, reuse } = request;
        let keeps = matches!(reuse, Reuse::Of(_));
        let (mut instance, started) = match (reuse, granted) {
            (Reuse::Of(Some(mut kept)), Some(granted)) => {
                let started = Instant::now();
                kept.begin(granted, &self.outside, log_source);
                (kept, started)
            }
            (_, granted) => {
                // The semaphore is never closed, so `acquire` always succeeds.
                let slot = self.slots.clone().acquire_owned().await.ok();
                let started = Instant::now();
                (Instance::new(self.store(limits, granted, log_source), slot), started)
            }
        };
        let Instance { store, plugin, .. } = &mut instance;

        // Instantiation also runs guest code.
        let meter = store.data().meter.clone();
        let whole = async {
            let made = match plugin.take() {
                Some(made) => made,
                None => pre.instantiate_async(&mut *store).await?,
            };
            let value = call(&made, &mut *store).await?;
            *plugin = Some(made);
            Ok(value)
        };
        let ended = tokio::time::timeout(limits.wall_time, Metered::new(whole, meter)).await;

        let state = instance.store.data();
        state.finish_output();
        let result = match ended {
            Ok(Ok(Ok(value))) => Ok(value),
            Ok(Ok(Err(error))) => Err(trap::failure(&error, state)),
            Ok(Err(_panic)) => Err(trap::host_panic()),
            Err(_elapsed) => Err(trap::wall_timeout(limits.wall_time)),
        };
        let usage = usage(state, started.elapsed());
        let (host_failure, log) = (state.tally.host_failure(), state.log().take());
        let instance = if keeps && result.is_ok() { instance.kept() } else { None };
        CallResult { result, host_failure, usage, log, instance }
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

fn usage(state: &GuestState, wall: Duration) -> Usage {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    Usage {
        wall_us: micros(wall),
        cpu_us: micros(state.meter.used()),
        memory_bytes_max: state.limiter.memory_bytes_high(),
        host_calls: state.tally.calls_so_far(),
        host_bytes: state.tally.bytes_so_far(),
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
