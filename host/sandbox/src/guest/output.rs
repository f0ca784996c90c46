//! A guest's stdout and stderr, which are written to its log. Beyond the limits bytes are dropped without an
//! error: a program that cannot write its panic message would fail with a misleading error.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::guest::log::{Log, Stream};

/// Most bytes of one write. wasi-libc splits longer ones.
const WRITE_BYTES: usize = 64 << 10;
/// A longer line is split here.
const LINE_BYTES: usize = 8 << 10;

pub type SharedLog = Arc<Mutex<Log>>;

#[derive(Clone)]
pub struct GuestOutput {
    stream: Stream,
    log: SharedLog,
    unfinished: Arc<Mutex<Vec<u8>>>,
}

impl GuestOutput {
    pub fn new(stream: Stream, log: SharedLog) -> GuestOutput {
        GuestOutput { stream, log, unfinished: Arc::default() }
    }

    /// Writes the last line to the log if it has no line end.
    pub fn finish(&self) {
        let rest = std::mem::take(&mut *self.unfinished.lock().unwrap_or_else(PoisonError::into_inner));
        if !rest.is_empty() {
            self.line(&rest);
        }
    }

    fn take(&self, bytes: &[u8]) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            unfinished.extend_from_slice(part);
            if unfinished.last() == Some(&b'\n') || unfinished.len() >= LINE_BYTES {
                let line = std::mem::take(&mut *unfinished);
                self.line(&line);
            }
        }
    }

    fn line(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let line = text.trim_end_matches(['\r', '\n']);
        if !line.is_empty() {
            self.log.lock().unwrap_or_else(PoisonError::into_inner).push_output(self.stream, line);
        }
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    /// Used only by WASI 0.3, which is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::empty())
    }
}

#[async_trait::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}
