//! All of the zoo, in the order of the table in docs/reliability.md.

use crate::guest::Guest;

pub fn all() -> Vec<Guest> {
    vec![
        Guest::fails("M1", "loop-in-process", "cpu-limit", "look for an endless loop"),
        Guest::fails("M1", "loop-for-long", "wall-timeout", "took longer than 300ms")
            .built_as("loop-in-process")
            .limits("cpu_time = \"60s\", wall_time = \"300ms\""),
        Guest::load("M1", "loop-in-describe", "describe() failed: cpu-limit"),
        Guest::load("M2", "loop-in-start", "describe() failed: cpu-limit"),
        Guest::fails("M2", "loop-in-realloc", "cpu-limit", "look for an endless loop"),
        Guest::fails("M2", "loop-in-post-return", "cpu-limit", "look for an endless loop"),
        Guest::fails("M4", "memory-eater", "memory-limit", "raise limits.memory"),
        Guest::fails("M6", "deep-recursion", "trap", "call stack exhausted"),
    ]
}
