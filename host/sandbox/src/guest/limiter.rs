use domain::failure::ErrorInfo;
use wasmtime::ResourceLimiter;

use crate::component_limits::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLE_ELEMENTS_SUM_MAX, TABLES_MAX};
use crate::guest::exhausted;

/// Limits the sum of all memories of an attempt. wasmtime's own limits apply to each memory separately.
pub struct Limiter {
    memory_bytes_max: usize,
    memory_bytes: usize,
    /// Size of the last granted growth, in case it fails after all.
    grown_bytes: usize,
    memory_bytes_high: usize,
    table_elements: usize,
    refused: bool,
    /// Set if the machine could not provide memory within the limit.
    host_failure: Option<ErrorInfo>,
}

impl Limiter {
    pub fn new(memory_bytes_max: usize) -> Limiter {
        Limiter {
            memory_bytes_max,
            memory_bytes: 0,
            grown_bytes: 0,
            memory_bytes_high: 0,
            table_elements: 0,
            refused: false,
            host_failure: None,
        }
    }

    /// Begins the next attempt on the same instance, whose memory remains.
    pub fn begin(&mut self) {
        self.memory_bytes_high = self.memory_bytes;
        self.refused = false;
        self.host_failure = None;
    }

    /// The present memory use.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// The highest memory use of the attempt.
    pub fn memory_bytes_high(&self) -> u64 {
        self.memory_bytes_high as u64
    }

    /// Whether the guest was refused memory. Its later behaviour (most abort) is a consequence.
    pub fn refused(&self) -> bool {
        self.refused
    }

    /// Why the machine could not provide memory within the limit, if so.
    pub fn host_failure(&self) -> Option<&ErrorInfo> {
        self.host_failure.as_ref()
    }

    pub fn memory_bytes_max(&self) -> usize {
        self.memory_bytes_max
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = desired.saturating_sub(current);
        let total = self.memory_bytes.saturating_add(grown);
        if total > self.memory_bytes_max {
            self.refused = true;
            return Ok(false);
        }
        self.grown_bytes = grown;
        self.memory_bytes = total;
        self.memory_bytes_high = self.memory_bytes_high.max(total);
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.host_failure = self.host_failure.take().or_else(|| exhausted::of(error.chain()));
        self.memory_bytes = self.memory_bytes.saturating_sub(self.grown_bytes);
        self.grown_bytes = 0;
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > TABLE_ELEMENTS_SUM_MAX {
            return Ok(false);
        }
        self.table_elements = total;
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.host_failure = self.host_failure.take().or_else(|| exhausted::of(error.chain()));
        Ok(())
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}
