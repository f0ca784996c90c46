//! Where log lines go: to stderr, as text for people or as JSON lines for machines.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged unless the configuration says otherwise: quiet dependencies, our own steps.
pub const FILTER_DEFAULT: &str = "info,sqlx=warn,wasmtime=warn,cranelift=warn,hyper=warn,async_nats=off";

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

/// Sets the process's subscriber. A second call changes nothing: the first one wins.
pub fn start(config: &LogConfig) {
    let filter = EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new(FILTER_DEFAULT));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let result = match config.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if result.is_err() {
        tracing::debug!("logging was already set up");
    }
}
