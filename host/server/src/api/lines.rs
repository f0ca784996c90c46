//! Lines of a body that arrives in parts.

use std::mem::take;

use axum::body::Bytes;

/// Splits parts into lines. Copies only lines that are spread over several parts.
#[derive(Default)]
pub struct Lines {
    /// The beginning of a line whose end has not arrived.
    begun: Vec<u8>,
    /// Bytes that have not been searched for a line.
    part: Bytes,
}

impl Lines {
    /// Adds the next part. The lines of the part before have to be taken first.
    pub fn push(&mut self, part: Bytes) {
        self.begun.extend_from_slice(&self.part);
        self.part = part;
    }

    /// The next line, without its end, if all of it has arrived.
    pub fn next(&mut self) -> Option<Bytes> {
        let end = self.part.iter().position(|byte| *byte == b'\n')?;
        let mut line = self.part.split_to(end + 1);
        line.truncate(end);
        if self.begun.is_empty() {
            return Some(line);
        }
        self.begun.extend_from_slice(&line);
        Some(take(&mut self.begun).into())
    }

    /// The length of the line that has begun to arrive.
    pub fn started(&self) -> usize {
        self.begun.len() + self.part.len()
    }

    /// The last line, if it has no end.
    pub fn rest(&mut self) -> Option<Bytes> {
        self.begun.extend_from_slice(&take(&mut self.part));
        let rest = take(&mut self.begun);
        (!rest.is_empty()).then(|| rest.into())
    }
}
