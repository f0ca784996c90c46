//! Lines for stdout or stderr, written by a separate thread: adding a line never blocks and never fails. If
//! the reader of the output stalls or goes away, lines are dropped and counted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Maximum size of waiting lines, in bytes: lines beyond it are dropped.
pub const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Delay before a blocked output (`O_NONBLOCK`) is tried again.
const BUSY_REST: Duration = Duration::from_millis(20);

/// A handle to the queue of one output.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Notified when a line was added, or when all lines were written.
    changed: Condvar,
    dropped: AtomicU64,
    /// Lines are being dropped: the queue is full, or the last write failed.
    failing: AtomicBool,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// The thread is writing the lines that it took.
    writing: bool,
}

impl Lines {
    /// Starts the thread. After lines were dropped and writing works again, `back` is
    /// called with their number.
    pub fn start(out: impl Write + Send + 'static, back: impl Fn(u64) + Send + 'static) -> io::Result<Lines> {
        let lines = Lines(Arc::default());
        let writer = Output { out, failed: false, torn: false, lines: lines.clone() };
        std::thread::Builder::new().name("tidemill-lines".to_owned()).spawn(move || writer.run(&back))?;
        Ok(lines)
    }

    /// Adds a line, including its line break, or drops it if the queue is full.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.bytes > 0 && queue.bytes.saturating_add(line.len()) > QUEUE_BYTES_MAX {
            self.0.failing.store(true, Ordering::Release);
            self.0.dropped.fetch_add(1, Ordering::AcqRel);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.to_vec());
        self.0.changed.notify_all();
    }

    /// The number of dropped lines since the start.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Acquire)
    }

    pub fn is_failing(&self) -> bool {
        self.0.failing.load(Ordering::Acquire)
    }

    /// Waits until all lines are written, but no longer than `time_max`.
    pub fn flush(&self, time_max: Duration) {
        let until = Instant::now() + time_max;
        let mut queue = self.queue();
        while queue.writing || !queue.lines.is_empty() {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return };
            let waited = self.0.changed.wait_timeout(queue, left);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a line, then takes all lines of the queue.
    fn take(&self) -> VecDeque<Vec<u8>> {
        let mut queue = self.queue();
        queue.writing = false;
        self.0.changed.notify_all();
        while queue.lines.is_empty() {
            queue = self.0.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        (queue.writing, queue.bytes) = (true, 0);
        std::mem::take(&mut queue.lines)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each log event is one write.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The state of the thread.
struct Output<W> {
    out: W,
    /// The last write failed.
    failed: bool,
    /// The last write ended within a line.
    torn: bool,
    lines: Lines,
}

impl<W: Write> Output<W> {
    fn run(mut self, back: &impl Fn(u64)) {
        let mut reported = 0;
        loop {
            for line in self.lines.take() {
                self.line(&line);
            }
            let dropped = self.lines.dropped();
            if dropped > reported && !self.failed && !self.lines.is_failing() {
                back(dropped - reported);
                reported = dropped;
            }
        }
    }

    fn line(&mut self, line: &[u8]) {
        let ended = if self.torn { self.write(b"\n") } else { Ok(()) };
        self.failed = ended.and_then(|()| self.write(line)).is_err();
        let shared = &self.lines.0;
        shared.failing.store(self.failed, Ordering::Release);
        shared.dropped.fetch_add(u64::from(self.failed), Ordering::AcqRel);
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(BUSY_REST),
                Err(error) => return Err(error),
            }
        }
        self.out.flush()
    }
}
