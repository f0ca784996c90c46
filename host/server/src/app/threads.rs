//! Whether this process may start the threads that it needs.

use std::sync::mpsc;
use std::thread;

use anyhow::bail;

/// Threads that a host starts beside one for each core: connections to SQLite, file system events, the clock of guests,
/// blocking work, and the compiler's own process.
const BESIDE_CORES: usize = 24;

/// Refuses to start where a limit would end the host later, at a thread that it cannot start.
pub fn check() -> anyhow::Result<()> {
    let needed = thread::available_parallelism().map_or(1, usize::from) + BESIDE_CORES;
    let mut probes = Vec::with_capacity(needed);
    for started in 0..needed {
        let (sender, receiver) = mpsc::channel::<()>();
        match thread::Builder::new().spawn(move || receiver.recv()) {
            Ok(thread) => probes.push((sender, thread)),
            Err(error) => bail!(
                "this process may start only {started} more threads, and needs {needed} ({error}): raise the limit of \
                 processes (ulimit -u, or the cgroup's pids.max), or end other processes of this user"
            ),
        }
    }
    for (sender, thread) in probes {
        // The thread ends when its sender is dropped. It counts until it has ended.
        drop(sender);
        let _ = thread.join();
    }
    Ok(())
}
