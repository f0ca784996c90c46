use crate::guest::bindings::logging::{Host, Level};
use crate::guest::log;
use crate::guest::state::GuestState;

/// `wasi:logging`: writes to the attempt's log, within its limits.
impl Host for GuestState {
    fn log(&mut self, level: Level, context: String, message: String) {
        let level = match level {
            Level::Trace => log::Level::Trace,
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error | Level::Critical => log::Level::Error,
        };
        GuestState::log(self).push(level, &context, &message);
    }
}
