//! Limits on the parts of one component.

/// Python guests have 14 core modules, QuickJS ones 2 memories.
pub const CORE_INSTANCES_MAX: u32 = 64;
/// Memories of one component, whatever the number of instances that share them. The limiter sums their sizes.
pub const MEMORIES_MAX: u32 = 8;
pub const TABLES_MAX: u32 = 16;
/// Elements of one table. The largest guests seen have 7,700.
pub const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Elements of all tables of an attempt together.
pub const TABLE_ELEMENTS_SUM_MAX: usize = 100_000;
