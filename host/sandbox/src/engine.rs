//! The one wasmtime engine of the process, and the thread that ticks its epoch.

use std::sync::Arc;
use std::time::Duration;

use domain::limits::{KIB, MIB};
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

use crate::bindings;
use crate::compile::Functions;
use crate::config::SandboxConfig;
use crate::sandbox::SandboxError;
use crate::state::State;

/// How often a guest that computes is looked at.
pub const TICK: Duration = Duration::from_millis(10);

/// What one component may be made of. Python guests have 14 core modules, QuickJS ones 2 memories.
pub const CORE_INSTANCES_MAX: u32 = 64;
/// Memories of one component, however many instances share them. The limiter adds up their sizes.
pub const MEMORIES_MAX: u32 = 8;
pub const TABLES_MAX: u32 = 16;
/// Elements of one table; the largest guests seen have 7,700.
const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Elements of all tables of an attempt.
pub const TABLE_ELEMENTS_SUM_MAX: usize = 100_000;

const WASM_STACK_BYTES: usize = 512 * KIB;
/// Host functions get what the guest's stack leaves of it.
const ASYNC_STACK_BYTES: usize = 2 * MIB;

pub struct Wasm {
    pub engine: Engine,
    pub linker: Arc<Linker<State>>,
    pub allocator: &'static str,
}

impl Wasm {
    pub fn start(config: &SandboxConfig) -> Result<Wasm, SandboxError> {
        let (engine, allocator) = engine(config).map_err(|e| SandboxError::Engine(format!("{e:#}")))?;
        let linker = bindings::linker(&engine).map_err(|e| SandboxError::Engine(format!("{e:#}")))?;
        tick(&engine)?;
        Ok(Wasm { engine, linker: Arc::new(linker), allocator })
    }
}

/// The pool needs a lot of address space, which some containers do not give: then memories are made on demand.
fn engine(config: &SandboxConfig) -> wasmtime::Result<(Engine, &'static str)> {
    let mut pooled = base();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config.attempts_max)));
    match Engine::new(&pooled) {
        Ok(engine) => Ok((engine, "pooling")),
        Err(e) => {
            tracing::warn!(
                reason = format!("{e:#}"),
                "no pool of memories could be set up; attempts start slower"
            );
            Ok((Engine::new(&base())?, "on-demand"))
        }
    }
}

/// Makes code for the engine above, and runs none: it needs no pool.
pub fn for_compiler(functions: Arc<Functions>) -> wasmtime::Result<Engine> {
    Engine::new(base().enable_incremental_compilation(functions)?)
}

/// Threads, GC, exceptions, stack switching, the async ABI and the text format are not even compiled in:
/// see the features of `wasmtime` in the workspace's Cargo.toml.
fn base() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .epoch_interruption(true)
        .concurrency_support(false)
        .wasm_memory64(false)
        // What wasmtime makes to connect two components copies from one memory to another. `scan` bounds how many
        // memories a guest's own modules may have.
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
        .total_core_instances(attempts_max.saturating_mul(8))
        .total_memories(attempts_max.saturating_mul(2))
        .total_tables(attempts_max.saturating_mul(2))
        .total_stacks(attempts_max)
        .max_component_instance_size(10 * MIB)
        .max_core_instance_size(10 * MIB)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        // wasmtime's default is 1 of each.
        .max_memories_per_module(MEMORIES_MAX)
        .max_tables_per_module(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .linear_memory_keep_resident(2 * MIB)
        .table_keep_resident(64 * KIB)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// An OS thread, because a guest that computes would starve a task of the runtime. It ends with the engine.
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
