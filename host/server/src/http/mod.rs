//! The HTTP server: connections with limits on their number, their time and their buffers.
//!
//! One listener serves people, programs and probes, and the kind of a connection is known only after its
//! first bytes. So the listener always accepts. At the limit it closes the connection that has waited longest
//! for its client instead of refusing the new one: a probe sends its request at once, a slow client does not.
//! Requests then take a slot of their class, and probes have separate slots ([`admission`]).

mod admission;
mod body;
mod connections;
pub(crate) mod error;
mod limits;
mod socket;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::admission::Admission;
pub(crate) use self::body::{COMPONENT_KIND, LINES_KIND, TooSlow, has_lines};
use self::connections::{Connection, Connections};
pub(crate) use self::error::ApiError;
pub use self::limits::HttpLimits;
pub(crate) use self::limits::{BODY_BYTES_MAX, LINE_BYTES_MAX, STREAMS_MAX};
use self::socket::Socket;

/// Maximum size of a request's head and of hyper's buffer for a connection.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Delay of the listener when the process has no file descriptor for a connection.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves until `stop`, then answers the requests in progress and returns.
pub async fn serve(listener: TcpListener, router: Router, limits: HttpLimits, stop: CancellationToken) {
    let connections = Arc::new(Connections::new(limits.within_open_files()));
    let admission = Arc::new(Admission::new(router, connections.clone()));
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                let Some(connection) = connections.admit(peer.ip()) else { continue };
                tasks.spawn(converse(socket, connection, admission.clone(), stop.clone()));
            }
            Err(error) => {
                // The connection ended before it was accepted, or no file descriptor is left.
                tracing::debug!(%error, "a connection was not accepted");
                connections.close_the_longest_waiting();
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// Serves one connection until it ends.
async fn converse(
    socket: TcpStream,
    connection: Arc<Connection>,
    admission: Arc<Admission>,
    stop: CancellationToken,
) {
    let limits = admission.limits();
    let service = {
        let connection = connection.clone();
        service_fn(move |request: hyper::Request<Incoming>| {
            let (admission, connection) = (admission.clone(), connection.clone());
            async move { Ok::<_, Infallible>(admission.answer(request, connection).await) }
        })
    };
    let io = TokioIo::new(Socket::new(socket, connection.clone(), limits.stall_time));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_time).max_buf_size(HEAD_BYTES_MAX);
    let mut conversation = pin!(builder.serve_connection(io, service));
    let mut stopping = pin!(stop.cancelled());
    let mut notified = false;
    loop {
        tokio::select! {
            ended = conversation.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = connection.closed() => return,
            () = &mut stopping, if !notified => {
                notified = true;
                conversation.as_mut().graceful_shutdown();
            }
        }
    }
}
