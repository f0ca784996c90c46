//! Output of commands: tables for people, JSON for programs.

use std::io::Write;

use clap::ValueEnum;
use comfy_table::{Table, presets};
use domain::text::{escape, escape_json, escape_lines};
use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use crate::telemetry;

/// Longer cells are truncated in tables; JSON contains the whole text.
const CELL_CHARS_MAX: usize = 72;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

/// Prints `value` as JSON, or as the table that `rows` returns.
pub fn print<T: Serialize>(
    output: Output,
    value: &T,
    header: &[&str],
    rows: impl FnOnce(&T) -> Vec<Vec<String>>,
) -> Result<(), Failure> {
    match output {
        Output::Json => print_json(value),
        Output::Table => print_table(header, rows(value)),
    }
}

pub fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Failure::failed(format!("the answer cannot be shown as JSON: {e}")))?;
    line(&escape_json(&text))
}

pub fn print_table(header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
    if rows.is_empty() {
        return line("none");
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| cut(&escape(cell))));
    }
    line(&table.trim_fmt())
}

/// Prints one or several lines to stdout, with hidden characters made visible. If the reader went away (`|
/// head`), the command ends without an error message.
pub fn line(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{}", escape_lines(text)) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write the output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Prints to stderr.
pub fn complain(text: &str) {
    telemetry::complain(&format!("tidemill: {}", text.replace('\n', "\n  ")));
}

fn cut(text: &str) -> String {
    if text.chars().count() <= CELL_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

/// In whole seconds, which are easier to compare.
pub fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

pub fn time_or_none(at: Option<Timestamp>) -> String {
    at.map(time).unwrap_or_default()
}

pub fn short(digest: Option<&String>) -> String {
    digest.map(|digest| digest.chars().take(12).collect()).unwrap_or_default()
}
