//! Named steps with their duration, so that long commands show progress.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Runs steps in order and records how long each took.
pub struct Steps {
    total: usize,
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    pub fn new(total: usize) -> Self {
        Self { total, done: Vec::new() }
    }

    /// Runs one step between its first and its last line; an error names the step.
    pub fn run<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let place = format!("[{}/{}]", self.done.len() + 1, self.total);
        eprintln!("{place} {name} …");
        let start = Instant::now();
        let result = work();
        let took = start.elapsed();
        let end = if result.is_ok() { "done" } else { "FAILED" };
        eprintln!("{place} {name}: {end} after {:.1} s", took.as_secs_f64());
        self.done.push((name, took));
        result.with_context(|| format!("step `{name}`"))
    }

    /// Prints one line per step, for the end of a long log.
    pub fn print_summary(&self) {
        let sum: Duration = self.done.iter().map(|(_, took)| *took).sum();
        for (name, took) in self.done.iter().chain([&("in all", sum)]) {
            eprintln!("{:>8.1} s  {name}", took.as_secs_f64());
        }
    }
}
