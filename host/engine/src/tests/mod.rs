//! Tests of the engine with a fake runner, a manual clock and a real store, on both databases. No test waits
//! for a duration: each waits for an event or for stored data.

mod fake;
mod world;

mod attempts;
mod clock;
mod crashes;
mod discoveries;
mod fairness;
mod hosts;
mod identity;
mod loops;
mod metrics;
mod outages;
mod schedules;
mod stops;
mod takeover;
