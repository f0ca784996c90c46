//! Unforgeable log lines: text of guests, services and requests is escaped, so that each event is one line.

use std::fmt;
use std::io::{self, Write};

use domain::text::{escape, escape_json};
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

const ITALIC: &str = "\x1b[3m";
const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Fields of text lines in the subscriber's own format, with hidden characters made visible.
pub fn fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    debug_fn(field).delimited(" ")
}

fn field(out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let value = format!("{value:?}");
    let value = escape(&value);
    match field.name() {
        "message" => out.write_str(&value),
        name => {
            let name = name.strip_prefix("r#").unwrap_or(name);
            match out.has_ansi_escapes() {
                true => write!(out, "{ITALIC}{name}{RESET}{DIM}={RESET}{value}"),
                false => write!(out, "{name}={value}"),
            }
        }
    }
}

/// Receives lines of JSON. Their strings have no line breaks, but may contain other
/// control sequences of terminals.
pub struct Json<W>(pub W);

impl<W: Write> Write for Json<W> {
    /// The subscriber writes a whole event in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) => self.0.write_all(escape_json(text).as_bytes())?,
            Err(_) => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use domain::text::is_hidden;
    use tracing_subscriber::fmt::SubscriberBuilder;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    const EVIL: &str =
        "500: oops\n2026-11-29T12:00:00Z ERROR forged\u{1b}[2J\u{9b}1m\u{7f}\u{202e}\u{2028}\u{200b}\r\0";

    fn log_evil() {
        tracing::warn!(error = %EVIL, text = EVIL, debug = ?EVIL, "message {EVIL}");
        let error = io::Error::other(EVIL);
        tracing::warn!(error = &error as &dyn std::error::Error, "an error");
        let span = tracing::info_span!("span", of = %EVIL);
        span.in_scope(|| tracing::info!("in a span"));
    }

    fn builder() -> SubscriberBuilder {
        tracing_subscriber::fmt()
    }

    #[test]
    fn no_field_of_a_text_line_forges_another() {
        let written = Written::default();
        let out = written.clone();
        let lines = builder().fmt_fields(fields()).with_ansi(false).with_writer(move || out.clone()).finish();
        tracing::subscriber::with_default(lines, log_evil);
        let text = written.text();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(!text.chars().any(|c| is_hidden(c) && c != '\n'), "{text:?}");
        let first = text.lines().next().unwrap();
        let shown = r"500: oops\n2026-11-29T12:00:00Z ERROR forged\u{1b}[2J\u{9b}1m\u{7f}\u{202e}\u{2028}\u{200b}\r\u{0}";
        assert!(first.contains(&format!("message {shown} error={shown} text=\"500")), "{first}");
    }

    #[test]
    fn colours_are_the_only_escapes_of_a_terminal() {
        let written = Written::default();
        let out = written.clone();
        let lines = builder().fmt_fields(fields()).with_ansi(true).with_writer(move || out.clone()).finish();
        tracing::subscriber::with_default(lines, log_evil);
        let text = written.text();
        assert_eq!(text.lines().count(), 3, "{text}");
        for escape in text.split('\u{1b}').skip(1) {
            let colour = escape.strip_prefix('[').and_then(|rest| rest.split_once('m'));
            assert!(colour.is_some_and(|(number, _)| number.parse::<u8>().is_ok()), "{escape:?}");
        }
    }

    #[test]
    fn lines_of_json_say_the_same_without_hidden_characters() {
        let written = Written::default();
        let out = written.clone();
        let lines = builder().json().flatten_event(true).with_writer(move || Json(out.clone())).finish();
        tracing::subscriber::with_default(lines, log_evil);
        let text = written.text();
        assert!(!text.chars().any(|c| is_hidden(c) && c != '\n'), "{text:?}");
        let events: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 3);
        assert_eq!(events[0]["error"], EVIL);
        assert_eq!(events[0]["message"], format!("message {EVIL}"));
    }
}
