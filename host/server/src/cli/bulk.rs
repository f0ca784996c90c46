//! `tidemill items add JOB --file FILE`: sends the items of a file as a stream.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::client::Remote;
use super::failure::Failure;
use super::items::say_waits;
use super::output::{Output, line, print_json};
use crate::api::bulk::AddedItems;

/// Time between two updates of the progress line.
const UPDATE_EVERY: Duration = Duration::from_millis(200);
/// The name of the standard input.
const STDIN: &str = "-";

pub fn add(job: &str, file: &Path, remote: &Remote) -> Result<(), Failure> {
    let shown = file.display();
    let unreadable = |error: &std::io::Error| Failure::Usage(format!("cannot read {shown}: {error}"));
    let source: Box<dyn Read> = match file.as_os_str() == STDIN {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(File::open(file).map_err(|error| unreadable(&error))?),
    };
    let mut counted = Counted::new(source);
    let added = remote.send_lines(&["jobs", job, "items"], &mut counted);
    counted.end();
    let added: AddedItems = match &counted.failure {
        Some(error) => return Err(unreadable(error)),
        None => added?,
    };
    match remote.output {
        Output::Json => print_json(&added),
        Output::Table => {
            line(&format!("{} added, {} reopened, {} kept", added.added, added.reopened, added.kept))?;
            say_waits(added.waits.as_ref())
        }
    }
}

/// Counts the lines that are read, and shows their number on a terminal.
struct Counted {
    source: Box<dyn Read>,
    lines: usize,
    shown_at: Option<Instant>,
    /// A failure of the source, which the client would report as one of the connection.
    failure: Option<std::io::Error>,
}

impl Counted {
    fn new(source: Box<dyn Read>) -> Counted {
        let shown_at = std::io::stderr().is_terminal().then(Instant::now);
        Counted { source, lines: 0, shown_at, failure: None }
    }

    fn show(&self, end: &str) {
        // Progress is not worth a failure.
        let _ = write!(std::io::stderr(), "\r{} lines sent{end}", self.lines);
    }

    fn end(&self) {
        if self.shown_at.is_some() {
            self.show("\n");
        }
    }
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = match self.source.read(into) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                let copy = std::io::Error::new(error.kind(), error.to_string());
                self.failure = Some(error);
                return Err(copy);
            }
            read => read?,
        };
        self.lines += into.iter().take(read).filter(|byte| **byte == b'\n').count();
        if self.shown_at.is_some_and(|at| at.elapsed() >= UPDATE_EVERY) {
            self.shown_at = Some(Instant::now());
            self.show("");
        }
        Ok(read)
    }
}
