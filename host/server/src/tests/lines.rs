//! Lines for an output that stalls, fails, and comes back: adding one neither blocks nor fails.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use crate::telemetry::Lines;

/// Maximum wait for the writing thread.
const PATIENCE: Duration = Duration::from_secs(30);
const LINE: usize = 64 << 10;

/// An output that waits for a result from the test at each call.
struct Slow {
    answers: Receiver<io::Result<()>>,
    written: Sender<Vec<u8>>,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answers.recv().unwrap_or(Ok(()))?;
        let _ = self.written.send(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Bench {
    lines: Lines,
    answers: Option<Sender<io::Result<()>>>,
    written: Receiver<Vec<u8>>,
    back: Receiver<u64>,
}

fn bench() -> Bench {
    let ((answers, answered), (writes, written), (reported, back)) =
        (mpsc::channel(), mpsc::channel(), mpsc::channel());
    let out = Slow { answers: answered, written: writes };
    let lines = Lines::start(out, move |lines| {
        let _ = reported.send(lines);
    })
    .unwrap();
    Bench { lines, answers: Some(answers), written, back }
}

#[test]
fn lines_beyond_the_queue_are_dropped_counted_and_reported_once() {
    let mut bench = bench();
    let line = vec![b'x'; LINE];
    for _ in 0..100 {
        bench.lines.push(&line);
    }
    let dropped = bench.lines.dropped();
    assert!((60..=84).contains(&dropped), "{dropped} of 100 lines of 64 KiB for a queue of 1 MiB");
    assert!(bench.lines.is_failing());
    bench.lines.flush(Duration::from_millis(10));
    // From now on all lines are written.
    bench.answers.take();
    assert_eq!(bench.back.recv_timeout(PATIENCE).unwrap(), dropped);
    bench.lines.flush(PATIENCE);
    assert_eq!(bench.written.try_iter().count() as u64, 100 - dropped);
    assert!(!bench.lines.is_failing());
}

#[test]
fn a_line_that_cannot_be_written_is_counted_and_the_next_one_is_tried() {
    let bench = bench();
    let answers = bench.answers.as_ref().unwrap();
    answers.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
    bench.lines.push(b"lost\n");
    bench.lines.flush(PATIENCE);
    assert_eq!((bench.lines.dropped(), bench.lines.is_failing()), (1, true));
    answers.send(Ok(())).unwrap();
    bench.lines.push(b"kept\n");
    assert_eq!(bench.written.recv_timeout(PATIENCE).unwrap(), b"kept\n");
    assert_eq!(bench.back.recv_timeout(PATIENCE).unwrap(), 1);
}
