//! Tables and properties of the rules.

mod addresses;
mod backoff;
mod clocks;
mod decisions;
mod describe;
mod effects;
mod fair;
mod flow;
mod leases;
mod limits;
mod locks;
mod metrics;
mod names;
mod odd_nights;
mod origin;
mod release_plans;
mod releases;
mod reuse;
mod schedules;
mod secrets;
mod statements;
mod states;
mod suspects;
mod text;
mod ticks;

use jiff::Timestamp;

/// An instant as people write it: `2026-11-20T12:00:30Z`.
fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}
