//! A connection's socket. Writing fails when the client does not read the response.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::body::PROGRESS_BYTES;
use super::connections::Connection;

/// How long, and how many bytes, the rest of a refused request is read and dropped. If the connection were
/// closed at once, it would be reset, and the client might not see the response.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 64 << 20;

pub struct Socket {
    socket: TcpStream,
    connection: Arc<Connection>,
    stall_time: Duration,
    /// Runs from the first blocked write until the client has read enough, or everything.
    stall: Option<Pin<Box<Sleep>>>,
    taken: usize,
    linger: Option<Pin<Box<Sleep>>>,
    dropped: usize,
}

impl Socket {
    pub fn new(socket: TcpStream, connection: Arc<Connection>, stall_time: Duration) -> Socket {
        Socket { socket, connection, stall_time, stall: None, taken: 0, linger: None, dropped: 0 }
    }

    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        match written {
            Poll::Pending => {
                let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(self.stall_time)));
                self.connection.set_stalled(true);
                ready!(stall.as_mut().poll(cx));
                let what = format!("the client did not take its answer within {:?}", self.stall_time);
                Poll::Ready(Err(Error::new(ErrorKind::TimedOut, what)))
            }
            Poll::Ready(written) => {
                self.taken += *written.as_ref().unwrap_or(&0);
                if self.taken >= PROGRESS_BYTES {
                    self.all_is_well();
                }
                Poll::Ready(written)
            }
        }
    }

    fn all_is_well(&mut self) {
        (self.stall, self.taken) = (None, 0);
        self.connection.set_stalled(false);
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    /// Called when all bytes are written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.all_is_well();
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
            if !self.connection.is_unread() {
                return Poll::Ready(Ok(()));
            }
        }
        let this = &mut *self;
        let linger = this.linger.get_or_insert_with(|| Box::pin(sleep(LINGER_TIME)));
        let mut scratch = [0; 16 << 10];
        while this.dropped < LINGER_BYTES_MAX && linger.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.socket).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => this.dropped += buf.filled().len(),
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
