//! The process's only wasmtime engine, and the thread that increments its epoch.

use std::sync::Arc;
use std::time::Duration;

use domain::limits::{KIB, MIB};
use wasmtime::component::Linker;
use wasmtime::{
    CacheStore, Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy,
};

use crate::component_limits::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_MAX, TABLES_MAX};
use crate::error::SandboxError;
use crate::guest::address_space;
use crate::guest::bindings;
use crate::guest::state::GuestState;

/// How often a computing guest is interrupted.
pub const TICK: Duration = Duration::from_millis(10);

/// A host with space for fewer concurrent calls does not start.
const CALLS_MIN: u32 = 4;

const WASM_STACK_BYTES: usize = 512 * KIB;
/// Includes the guest's stack; host functions use the rest.
const ASYNC_STACK_BYTES: usize = 2 * MIB;

/// Memory that a slot of the pool keeps for its next instance, instead of returning it to the system: of each
/// linear memory, of each table, and of the stack. A later instance then causes no page faults. Only pages that
/// a guest has touched are resident, and each is cleared before the next instance.
pub const KEPT_MEMORY_BYTES: usize = 2 * MIB;
pub const KEPT_TABLE_BYTES: usize = 64 * KIB;
pub const KEPT_STACK_BYTES: usize = 32 * KIB;

pub struct Wasm {
    pub engine: Engine,
    pub linker: Arc<Linker<GuestState>>,
    /// Number of concurrent calls that the pool supports.
    pub calls_max: u32,
}

impl Wasm {
    pub fn start(attempts_max: u32) -> Result<Wasm, SandboxError> {
        let (engine, calls_max) = engine(attempts_max)?;
        let linker = bindings::linker(&engine).map_err(|e| SandboxError::Engine(format!("{e:#}")))?;
        tick(&engine)?;
        Ok(Wasm { engine, linker: Arc::new(linker), calls_max })
    }
}

/// The guests' memories reserve address space, which some containers limit. Allocation on demand would fail
/// attempts. So a host that cannot reserve its whole pool uses the largest one that leaves space for the rest
/// of the process.
fn engine(calls_wanted: u32) -> Result<(Engine, u32), SandboxError> {
    let mut calls = calls_wanted.max(1);
    loop {
        let mut pooled = base();
        pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(calls)));
        let why = match Engine::new(&pooled) {
            Ok(engine) => match address_space::lacking() {
                None => return Ok((engine, said(calls, calls_wanted))),
                Some(why) => why,
            },
            Err(e) => format!("{e:#}"),
        };
        if calls <= CALLS_MIN.min(calls_wanted) {
            return Err(SandboxError::Pool { calls, why, bound: address_space::bound() });
        }
        calls = (calls / 2).max(CALLS_MIN);
    }
}

fn said(calls: u32, wanted: u32) -> u32 {
    if calls < wanted {
        tracing::warn!(
            calls,
            wanted,
            bound = address_space::bound(),
            "there is address space for fewer calls of plugins at a time; raise it (ulimit -v unlimited, LimitAS=infinity)"
        );
    }
    calls
}

/// An engine that compiles for the engine above and runs nothing, so it needs no pool.
pub fn for_compiler(functions: Arc<dyn CacheStore>) -> wasmtime::Result<Engine> {
    Engine::new(base().enable_incremental_compilation(functions)?)
}

/// Threads, GC, exceptions, stack switching, the async ABI and the text format are not compiled in: see the
/// features of `wasmtime` in the workspace's Cargo.toml.
fn base() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_memory64(false)
        // The adapter that wasmtime generates between two components copies from one memory to another.
        // `scan` limits the number of memories of a guest's own modules.
        .wasm_multi_memory(true)
        .wasm_relaxed_simd(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .cranelift_nan_canonicalization(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(ASYNC_STACK_BYTES)
        .async_stack_zeroing(true);
    config
}

fn pool(attempts_max: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(attempts_max)
        // A small pool still has to hold one component of the largest kind, which could never start
        // otherwise.
        .total_core_instances(attempts_max.saturating_mul(8).max(CORE_INSTANCES_MAX))
        .total_memories(attempts_max.saturating_mul(2).max(MEMORIES_MAX))
        .total_tables(attempts_max.saturating_mul(2).max(TABLES_MAX))
        .total_stacks(attempts_max)
        .max_component_instance_size(10 * MIB)
        .max_core_instance_size(10 * MIB)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        // wasmtime's default is 1 for each.
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(kept_memory_bytes())
        .table_keep_resident(KEPT_TABLE_BYTES)
        .async_stack_keep_resident(KEPT_STACK_BYTES)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// Linux before 6.7 does not report the pages that a guest has touched (`PAGEMAP_SCAN`). All kept memory would
/// then be cleared after each call, which takes longer than the page faults that it avoids.
fn kept_memory_bytes() -> usize {
    match PoolingAllocationConfig::is_pagemap_scan_available() {
        true => KEPT_MEMORY_BYTES,
        false => 0,
    }
}

/// An OS thread, because a computing guest would starve a task of the runtime. It ends with the engine.
fn tick(engine: &Engine) -> Result<(), SandboxError> {
    let weak = engine.weak();
    let ticker = move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new()
        .name("tidemill-epoch".to_owned())
        .spawn(ticker)
        .map(drop)
        .map_err(SandboxError::Ticker)
}
