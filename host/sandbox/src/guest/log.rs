//! A guest's log, within its limits and made safe: each entry is one line, whatever it contains.

use std::fmt::Write;

use domain::limits::{Limits, cut};
use domain::text::{escape, escape_lines};

use crate::guest::last_words::LastWords;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Trace => "TRACE",
            Level::Debug => "DEBUG",
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
        }
    }
}

/// The source of log lines, for the host's own log.
#[derive(Debug, Clone, Default)]
pub struct LogSource {
    pub job: String,
    /// The item's key, or the run.
    pub subject: String,
}

pub struct Log {
    log_source: LogSource,
    lines_max: usize,
    line_bytes_max: usize,
    bytes_max: usize,
    text: String,
    lines: usize,
    dropped: usize,
    /// The last lines of stderr, which explain a trap. Kept even when the log is full.
    last_words: LastWords,
}

impl Log {
    pub fn new(log_source: LogSource, limits: &Limits) -> Log {
        Log {
            log_source,
            lines_max: limits.log_lines,
            line_bytes_max: limits.log_line_bytes,
            bytes_max: limits.log_bytes,
            text: String::new(),
            lines: 0,
            dropped: 0,
            last_words: LastWords::default(),
        }
    }

    pub fn push(&mut self, level: Level, context: &str, message: &str) {
        if self.lines >= self.lines_max {
            self.dropped += 1;
            return;
        }
        // Cut first, to avoid escaping a line of megabytes.
        let raw = match context {
            "" => cut(message, self.line_bytes_max),
            _ => cut(
                &format!("{}: {}", cut(context, 128), cut(message, self.line_bytes_max)),
                self.line_bytes_max,
            ),
        };
        let line = cut(&escape(&raw), self.line_bytes_max);
        let entry_bytes = level.as_str().len() + line.len() + 2;
        if self.text.len() + entry_bytes > self.bytes_max {
            self.dropped += 1;
            return;
        }
        self.emit(level, &line);
        self.lines += 1;
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{} {line}", level.as_str());
    }

    /// One line that the guest wrote to stdout or stderr.
    pub fn push_output(&mut self, stream: Stream, line: &str) {
        let level = match stream {
            Stream::Stdout => Level::Info,
            Stream::Stderr => {
                // Tabs are kept: they mark the frames of a stack.
                self.last_words.push(escape_lines(&cut(line, 1_024)).into_owned());
                Level::Warn
            }
        };
        self.push(level, stream.as_str(), line);
    }

    /// The last lines that the guest wrote to stderr.
    pub fn last_words(&self) -> &LastWords {
        &self.last_words
    }

    /// Takes all kept lines. The log is empty afterwards.
    pub fn take(&mut self) -> String {
        let mut text = std::mem::take(&mut self.text);
        if self.dropped > 0 {
            let _ = writeln!(text, "({} more lines dropped)", self.dropped);
        }
        text
    }

    fn emit(&self, level: Level, line: &str) {
        let LogSource { job, subject } = &self.log_source;
        match level {
            Level::Trace => tracing::trace!(target: "guest", job, subject, "{line}"),
            Level::Debug => tracing::debug!(target: "guest", job, subject, "{line}"),
            Level::Info => tracing::info!(target: "guest", job, subject, "{line}"),
            Level::Warn => tracing::warn!(target: "guest", job, subject, "{line}"),
            Level::Error => tracing::error!(target: "guest", job, subject, "{line}"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}
