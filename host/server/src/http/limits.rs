//! `[server.limits]`: the resources that clients may occupy.

use std::time::Duration;

/// Largest body of a request that is read.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Largest line of a stream of lines, without its end. As large as the body that has one item.
pub const LINE_BYTES_MAX: usize = BODY_BYTES_MAX;
/// Memory that a stream of lines counts with: one portion is read while the one before is written, and both have
/// arguments of statements.
pub const LINES_BYTES: usize = 4 << 20;
/// Streams of events that are open at the same time.
pub const STREAMS_MAX: usize = 64;
/// Probes that are answered at a time.
pub const PROBES_MAX: usize = 16;

/// Limits of the HTTP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections that are open at a time.
    pub connections: usize,
    /// Connections from one address that are open at a time.
    pub connections_per_peer: usize,
    /// Requests that are answered at a time, without probes.
    pub requests: usize,
    /// Time limit for a request's head, and for a connection without a request.
    pub head_time: Duration,
    /// Time limit for a request's body.
    pub body_time: Duration,
    /// Time within which a client has to send or receive [`super::body::PROGRESS_BYTES`].
    pub stall_time: Duration,
    /// Bytes of all large request bodies together.
    pub bodies_bytes: usize,
    /// Bytes of all large responses together.
    pub answers_bytes: usize,
}

impl HttpLimits {
    pub const DEFAULT: HttpLimits = HttpLimits {
        connections: 256,
        connections_per_peer: 224,
        requests: 64,
        head_time: Duration::from_secs(10),
        body_time: Duration::from_secs(60),
        stall_time: Duration::from_secs(10),
        bodies_bytes: 64 << 20,
        answers_bytes: 64 << 20,
    };

    /// Connections that are never closed in favour of a new one: requests being
    /// answered, streams (events), probes.
    pub fn kept(&self) -> usize {
        self.requests + STREAMS_MAX + PROBES_MAX
    }

    /// Limits the connections to half of the files that this process may open: the store and
    /// plugins need the others.
    pub fn within_open_files(self) -> HttpLimits {
        let most = open_files_max().map_or(usize::MAX, |files| (files / 2).max(1));
        if most >= self.connections {
            return self;
        }
        tracing::warn!(
            connections = most,
            configured = self.connections,
            "fewer connections than server.limits.connections: this process may open few files (ulimit -n)"
        );
        HttpLimits { connections: most, connections_per_peer: self.connections_per_peer.min(most), ..self }
    }
}

/// The soft limit of open files, if there is one.
fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
