//! The data of a wasmtime `Store`: that of one attempt, or of one after the other if the instance is reused.

use std::any::Any;
use std::sync::{Arc, MutexGuard, PoisonError};

use domain::clock::Clock;
use domain::job::JobSpec;
use domain::limits::Limits;
use domain::plugin::Describe;
use domain::scope::Scope;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::guest::capabilities::http::{Caller, Http};
use crate::guest::capabilities::keyvalue::Bucket;
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

impl AttemptContext {
    /// The same, with a scope that counts its use.
    fn counted(self, tally: &UsageCounter) -> AttemptContext {
        AttemptContext { scope: Arc::new(Counted::new(self.scope, tally.clone())), ..self }
    }
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

/// An instance with more memory than one of so many parts of its limit is not reused: the next item would
/// begin close to the limit.
const REUSED_MEMORY_SHARE: usize = 2;

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
        let granted = granted.map(|granted| granted.counted(&tally));
        let caller = granted.as_ref().map(|granted| Caller::of(granted, tally.clone()));
        GuestState {
            http: Http::new(outside.clients.clone(), caller, limits, log.clone()),
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

    /// Begins the next attempt on a reused instance. Only handles, clocks and random numbers continue; all else
    /// that the host keeps about an attempt is new.
    pub fn begin(&mut self, granted: AttemptContext, outside: &SharedResources, log_source: LogSource) {
        let tally = UsageCounter::default();
        let granted = granted.counted(&tally);
        let caller = Caller::of(&granted, tally.clone());
        self.http = Http::new(outside.clients.clone(), Some(caller), &self.limits, self.log.clone());
        self.granted = Some(granted);
        self.limiter.begin();
        self.meter = CpuMeter::default();
        self.tally = tally;
        let log = Log::new(log_source, &self.limits);
        *self.log() = log;
    }

    /// Ends an attempt on an instance that is kept, so that its scope is released. Returns false if the attempt
    /// left something of the host's that could affect the next one.
    pub fn end(&mut self) -> bool {
        self.http.end();
        self.granted = None;
        !self.limiter.refused()
            && self.limiter.host_failure().is_none()
            && self.limiter.memory_bytes() <= self.limits.memory_bytes / REUSED_MEMORY_SHARE
            && self.table.iter_mut().all(|handle| may_outlast_attempt(handle))
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called when the guest will not write any more.
    pub fn finish_output(&self) {
        self.outputs.iter().for_each(GuestOutput::finish);
    }
}

/// Handles of the standard streams, which language runtimes keep, and of buckets, which are only names. A
/// stream of a request's body, and a pollable of anything else, exist only beside a handle that is not listed.
fn may_outlast_attempt(handle: &(dyn Any + Send)) -> bool {
    handle.is::<DynInputStream>()
        || handle.is::<DynOutputStream>()
        || handle.is::<DynPollable>()
        || handle.is::<Bucket>()
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}
