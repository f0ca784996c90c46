//! Maps wasmtime's errors to the attempt's failure. The codes are the host's own, and part of its interface.

use std::time::Duration;

use domain::failure::{ErrorInfo, Failure, HOST_PANIC, HOST_RESOURCES};
use domain::limits::cut;
use domain::text::escape;
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

use crate::guest::exhausted;
use crate::guest::state::GuestState;

/// wasmtime does not export the type of this error.
const HOSTCALL_FUEL: &str = "fuel allocated for hostcalls";
/// The same for this error, which concerns resources that the guest creates.
const OWN_HANDLES: &str = "store handle limit exceeded";

#[derive(Debug, thiserror::Error)]
#[error("the guest computed for more than {0:?}")]
pub struct CpuLimit(pub Duration);

pub fn failure(error: &wasmtime::Error, state: &GuestState) -> Failure {
    if let Some(error) = of_host(error, state) {
        return Failure::Host(error);
    }
    let (code, message) = code_and_message(error, state);
    Failure::transient(code, cut(&escape(&message), state.limits.text_bytes))
}

/// The host failure that ended the call, if any. A guest that was refused memory aborts with its own message.
fn of_host(error: &wasmtime::Error, state: &GuestState) -> Option<ErrorInfo> {
    if error.is::<PoolConcurrencyLimitError>() {
        let text = format!("the host has no room for another attempt: {error:#}");
        return Some(ErrorInfo::new(HOST_RESOURCES, text));
    }
    exhausted::of(error.chain()).or_else(|| state.limiter.host_failure().cloned())
}

fn code_and_message(error: &wasmtime::Error, state: &GuestState) -> (&'static str, String) {
    let limits = &state.limits;
    let whole = format!("{error:#}");
    if let Some(limit) = error.downcast_ref::<CpuLimit>() {
        return ("cpu-limit", format!("{limit}; look for an endless loop, or raise limits.cpu_time"));
    }
    if state.limiter.refused() {
        let bytes = state.limiter.memory_bytes_max();
        let message = format!(
            "the guest wanted more than {bytes} bytes of memory; raise limits.memory of the job if it needs more"
        );
        return ("memory-limit", message);
    }
    if whole.contains(HOSTCALL_FUEL) {
        let message = format!(
            "the guest handed over more than {} bytes at once, in its result or in a host call (limits.hostcall of the job)",
            limits.hostcall_bytes
        );
        return ("hostcall-limit", message);
    }
    if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) || whole.contains(OWN_HANDLES) {
        return (
            "handle-limit",
            format!("the guest holds more than {} handles (limits.handles of the job)", limits.handles),
        );
    }
    let log = state.log();
    let (cause, tail) = (log.last_words().cause(), log.last_words().tail());
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        let message = format!("the guest ended itself with exit code {}", exit.0);
        let message = match cause.or(tail) {
            Some(words) => format!("{words} ({message})"),
            None => message,
        };
        return ("exited", message);
    }
    match (error.downcast_ref::<Trap>(), cause) {
        (Some(_), Some(words)) => ("guest-panic", words),
        _ => ("trap", with_cause_first(error, tail)),
    }
}

/// wasmtime's backtrace precedes the trap. This puts the trap first, then the guest's output, then the rest.
fn with_cause_first(error: &wasmtime::Error, tail: Option<String>) -> String {
    let mut texts: Vec<String> = error.chain().map(|part| one_line(&part.to_string())).collect();
    let mut message = texts.pop().unwrap_or_default();
    if let Some(tail) = tail {
        message.push_str(&format!("; stderr: {tail}"));
    }
    for text in texts.iter().rev() {
        message.push_str("; ");
        message.push_str(text);
    }
    message
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub fn wall_timeout(wall_time: Duration) -> Failure {
    let message = format!(
        "the call took longer than {wall_time:?}, waiting included; raise limits.wall_time if it has to"
    );
    Failure::transient("wall-timeout", message)
}

/// A defect of the host, which ends only this attempt. The panic itself is on the host's stderr.
pub fn host_panic() -> Failure {
    Failure::host(HOST_PANIC, "the host failed inside a call of the guest; please report it")
}
