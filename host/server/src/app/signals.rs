//! Signals of a host: none of them ends it other than by an orderly stop. Signals that a process cannot
//! survive (a fault of its own, SIGKILL) and signals that only suspend it keep their default action.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The action that a signal requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Stop,
    Reload,
    Nothing,
}

/// Signals by number. SIGPIPE is not included: Rust ignores it, and logging it would write to the closed pipe
/// again. Numbers are those of Linux on x86-64 and AArch64.
const SIGNALS: [(i32, &str, Request); 14] = [
    (1, "SIGHUP", Request::Reload),
    (2, "SIGINT", Request::Stop),
    (3, "SIGQUIT", Request::Stop),
    (10, "SIGUSR1", Request::Nothing),
    (12, "SIGUSR2", Request::Nothing),
    (14, "SIGALRM", Request::Nothing),
    (15, "SIGTERM", Request::Stop),
    (16, "SIGSTKFLT", Request::Nothing),
    // The limit on CPU time is near: the next signal may be SIGKILL.
    (24, "SIGXCPU", Request::Stop),
    // The write fails with its own error.
    (25, "SIGXFSZ", Request::Nothing),
    (26, "SIGVTALRM", Request::Nothing),
    (27, "SIGPROF", Request::Nothing),
    (29, "SIGIO", Request::Nothing),
    (30, "SIGPWR", Request::Stop),
];
/// The C library reserves 32 and 33.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// The actions requested by signals since [`Signals::install`].
#[derive(Clone, Default)]
pub struct Signals {
    pub stop: CancellationToken,
    pub reload: Arc<Notify>,
}

impl Signals {
    /// Installs the handlers. Call this in the runtime before any file is opened.
    pub fn install() -> io::Result<Signals> {
        let signals = Signals::default();
        for (number, name, request) in SIGNALS {
            signals.listen(number, name.to_owned(), request)?;
        }
        for number in REAL_TIME {
            signals.listen(number, format!("SIGRTMIN+{}", number - REAL_TIME.start()), Request::Nothing)?;
        }
        Ok(signals)
    }

    fn listen(&self, number: i32, name: String, request: Request) -> io::Result<()> {
        let mut received = signal(SignalKind::from_raw(number))
            .map_err(|error| io::Error::new(error.kind(), format!("cannot listen for {name}: {error}")))?;
        let signals = self.clone();
        tokio::spawn(async move {
            while received.recv().await.is_some() {
                signals.received(&name, request);
            }
        });
        Ok(())
    }

    fn received(&self, name: &str, request: Request) {
        match request {
            Request::Stop => {
                tracing::info!(signal = name, "signal received: the host stops");
                self.stop.cancel();
            }
            Request::Reload => {
                tracing::info!(signal = name, "signal received: the configuration is read again");
                self.reload.notify_one();
            }
            Request::Nothing => tracing::warn!(signal = name, "signal ignored"),
        }
    }
}
