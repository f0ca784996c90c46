//! Stories of the engine, told with a fake runner, a clock that a test moves and a real store.
//! Each is told on both databases. Nothing here waits for a time: only for what happens, or for what is stored.

#[macro_use]
mod world;
mod fake;

mod attempts;
mod clock;
mod crashes;
mod discoveries;
mod fairness;
mod figures;
mod hosts;
mod identity;
mod loops;
mod outages;
mod schedules;
mod stops;
