//! The data of one attempt's `Store`.

use std::sync::{Arc, MutexGuard, PoisonError};

use domain::clock::Clock;
use domain::job::JobSpec;
use domain::limits::Limits;
use domain::plugin::Describe;
use domain::scope::Scope;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::guest::capabilities::http::{Caller, Http};
use crate::guest::clocks::{GuestMonotonicClock, GuestWallClock};
use crate::guest::http::Clients;
use crate::guest::limiter::Limiter;
use crate::guest::log::{Log, LogSource, Stream};
use crate::guest::meter::CpuMeter;
use crate::guest::output::{GuestOutput, SharedLog};
use crate::guest::usage::{Counted, UsageCounter};

/// The capabilities of an attempt. Absent during `describe`.
pub struct AttemptContext {
    pub job: Arc<JobSpec>,
    pub describe: Arc<Describe>,
    pub scope: Arc<dyn Scope>,
    /// `None` for a discovery.
    pub fence: Option<AttemptTag>,
}

/// Identifies this attempt to the services that it calls.
#[derive(Clone)]
pub struct AttemptTag {
    pub epoch: i64,
    pub idempotency_key: String,
}

/// Shared resources outside of any guest.
pub struct SharedResources {
    pub clock: Clock,
    pub clients: Arc<Clients>,
}

pub struct GuestState {
    pub granted: Option<AttemptContext>,
    pub limits: Limits,
    pub table: ResourceTable,
    pub limiter: Limiter,
    pub meter: CpuMeter,
    pub tally: UsageCounter,
    pub http: Http,
    log: SharedLog,
    outputs: [GuestOutput; 2],
    wasi: WasiCtx,
}

impl GuestState {
    pub fn new(
        granted: Option<AttemptContext>,
        limits: &Limits,
        outside: &SharedResources,
        log_source: LogSource,
    ) -> GuestState {
        let log = SharedLog::new(Log::new(log_source, limits).into());
        let stdout = GuestOutput::new(Stream::Stdout, log.clone());
        let stderr = GuestOutput::new(Stream::Stderr, log.clone());
        // No folder, variable, argument, input or socket: wasmtime-wasi provides only the things listed here.
        let wasi = WasiCtx::builder()
            .stdout(stdout.clone())
            .stderr(stderr.clone())
            .wall_clock(GuestWallClock(outside.clock.clone()))
            .monotonic_clock(GuestMonotonicClock::new(outside.clock.clone()))
            .max_random_size(limits.random_bytes)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let tally = UsageCounter::default();
        let granted = granted.map(|granted| AttemptContext {
            scope: Arc::new(Counted::new(granted.scope, tally.clone())),
            ..granted
        });
        let who = granted.as_ref().map(|granted| Caller::of(granted, tally.clone()));
        GuestState {
            http: Http::new(outside.clients.clone(), who, limits, log.clone()),
            granted,
            limits: limits.clone(),
            table,
            limiter: Limiter::new(limits.memory_bytes),
            meter: CpuMeter::default(),
            tally,
            log,
            outputs: [stdout, stderr],
            wasi,
        }
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called when the guest will not write any more.
    pub fn finish_output(&self) {
        self.outputs.iter().for_each(GuestOutput::finish);
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
