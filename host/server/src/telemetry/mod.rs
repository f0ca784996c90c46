//! Log output to stderr, as text for people or as JSON lines for machines. Logging never waits for the reader
//! of the log, and does not fail without one.

mod lines;
mod safe;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use domain::text::escape_lines;
use tracing_subscriber::EnvFilter;

pub use self::lines::Lines;

/// The default log filter: `info`, but less from some dependencies.
pub const FILTER_DEFAULT: &str = "info,sqlx=warn,wasmtime=warn,cranelift=warn,hyper=warn,async_nats=off";

/// How long the end of the process waits for its last output to be read.
pub const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// One per process, like the subscriber.
static LOG: OnceLock<Lines> = OnceLock::new();
static OUT: OnceLock<Lines> = OnceLock::new();

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    pub format: LogFormat,
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { format: LogFormat::Text, filter: FILTER_DEFAULT.to_owned() }
    }
}

pub fn check_filter(text: &str) -> Result<(), String> {
    text.parse::<EnvFilter>().map(|_| ()).map_err(|e| format!("{text:?} is not a log filter: {e}"))
}

/// Sets the process's subscriber and panic hook. A second call changes nothing.
pub fn start(config: &LogConfig) -> std::io::Result<()> {
    if LOG.get().is_some() {
        return Ok(());
    }
    let log = Lines::start(std::io::stderr(), lines_dropped)?;
    let log = LOG.get_or_init(|| log);
    let filter = EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new(FILTER_DEFAULT));
    // An internal error would be printed to stderr, which panics if stderr is closed.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let result = match config.format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            lines.fmt_fields(safe::fields()).with_ansi(ansi).with_writer(move || log.clone()).try_init()
        }
        LogFormat::Json => {
            lines.json().flatten_event(true).with_writer(move || safe::Json(log.clone())).try_init()
        }
    };
    if result.is_err() {
        tracing::debug!("logging was already set up");
    }
    std::panic::set_hook(Box::new(panicked));
    Ok(())
}

/// Writes waiting lines, for a limited time. Call it before the process ends.
pub fn flush() {
    for lines in [&OUT, &LOG].into_iter().filter_map(OnceLock::get) {
        lines.flush(FLUSH_TIME_MAX);
    }
}

/// Prints a line to stdout. The process continues if stdout is not read.
pub fn say(line: &str) {
    let out = OUT.get().cloned().or_else(|| {
        let started = Lines::start(std::io::stdout(), |_| {}).ok()?;
        Some(OUT.get_or_init(|| started).clone())
    });
    if let Some(out) = out {
        out.push(format!("{line}\n").as_bytes());
    }
}

/// Prints a line outside of the log, for example why the process ends. Without a log it goes
/// to stderr at once.
pub fn complain(line: &str) {
    let line = escape_lines(line);
    match LOG.get() {
        Some(log) => log.push(format!("{line}\n").as_bytes()),
        // There is no way to report this failure.
        None => drop(std::io::Write::write_all(&mut std::io::stderr(), format!("{line}\n").as_bytes())),
    }
}

/// Log lines dropped since the start.
pub fn dropped() -> u64 {
    LOG.get().map_or(0, Lines::dropped)
}

/// Why log lines are being dropped, if they are.
pub fn trouble() -> Option<String> {
    let log = LOG.get().filter(|log| log.is_failing())?;
    Some(format!("{} log lines were dropped: stderr is not read, or cannot be written", log.dropped()))
}

fn lines_dropped(lines: u64) {
    tracing::warn!(lines, "log lines were dropped while stderr was not read or could not be written");
}

/// The default hook would write to stderr directly, and wait for its reader.
fn panicked(info: &PanicHookInfo<'_>) {
    let why = store::tasks::message(info.payload());
    let at = info.location().map(ToString::to_string).unwrap_or_default();
    let current = std::thread::current();
    let thread = current.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(thread, at, %why, %backtrace, "the host panicked");
    } else {
        tracing::error!(thread, at, %why, "the host panicked");
    }
}
