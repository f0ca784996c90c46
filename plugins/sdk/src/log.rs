//! Log lines of the attempt: `log::info!("greeted {name}")`.

pub use crate::bindings::wasi::logging::logging::Level;
pub use crate::{__debug as debug, __error as error, __info as info, __warn as warn};

use crate::bindings::wasi::logging::logging;

/// Writes one line. `context` names the part of the plugin; the macros fill in the module.
pub fn log(level: Level, context: &str, message: &str) {
    logging::log(level, context, message);
}

#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($arg:tt)+) => { $crate::log::log($crate::log::Level::Debug, module_path!(), &format!($($arg)+)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($arg:tt)+) => { $crate::log::log($crate::log::Level::Info, module_path!(), &format!($($arg)+)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($arg:tt)+) => { $crate::log::log($crate::log::Level::Warn, module_path!(), &format!($($arg)+)) };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($arg:tt)+) => { $crate::log::log($crate::log::Level::Error, module_path!(), &format!($($arg)+)) };
}
