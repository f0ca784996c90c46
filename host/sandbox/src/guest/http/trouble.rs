//! Maps errors of a request to the error codes of `wasi:http`.

use std::error::Error as StdError;
use std::io;
use std::iter::successors;

use wasmtime_wasi_http::Error;

use super::resolver::{Prohibited, Unresolved};
use crate::guest::exhausted;
use crate::guest::usage::UsageCounter;

/// Also records the error if it is the host's own.
pub fn of(error: &(dyn StdError + 'static), tally: &UsageCounter) -> Error {
    if let Some(exhausted) = exhausted::of(causes(error)) {
        tally.host_failed(exhausted);
    }
    // The innermost known cause is the most specific.
    let known = causes(error).filter_map(known).last();
    let words = || causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    known.unwrap_or_else(|| Error::InternalError(Some(words())))
}

/// An error and its causes. The inner error of an `io::Error` is not part of `source`.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    successors(Some(error), |&error| match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(carried) => Some(carried as &(dyn StdError + 'static)),
        None => error.source(),
    })
}

fn known(error: &(dyn StdError + 'static)) -> Option<Error> {
    if let Some(Error::HttpRequestBodySize(bytes)) = error.downcast_ref() {
        return Some(Error::HttpRequestBodySize(*bytes));
    }
    if error.is::<Prohibited>() {
        return Some(Error::DestinationIpProhibited);
    }
    if let Some(unresolved) = error.downcast_ref::<Unresolved>() {
        return Some(Error::DnsError { rcode: Some(unresolved.to_string()), info_code: None });
    }
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(match tls {
            rustls::Error::InvalidCertificate(_) => Error::TlsCertificateError,
            _ => Error::TlsProtocolError,
        });
    }
    let io = || error.downcast_ref::<io::Error>().map(of_io);
    error.downcast_ref::<hyper::Error>().map(of_hyper).or_else(io)
}

fn of_io(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::HttpResponseIncomplete,
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Error::HttpProtocolError,
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationUnavailable,
        _ => Error::ConnectionTerminated,
    }
}

fn of_hyper(error: &hyper::Error) -> Error {
    match () {
        _ if error.is_parse() => Error::HttpProtocolError,
        _ if error.is_incomplete_message() => Error::HttpResponseIncomplete,
        _ if error.is_timeout() => Error::HttpResponseTimeout,
        _ => Error::ConnectionTerminated,
    }
}

#[cfg(test)]
mod tests {
    use domain::failure::HOST_RESOURCES;
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_this_machine_lacks_is_noted_and_what_the_service_does_is_not() {
        for (errno, is_own) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::NOMEM, true),
            (Errno::ADDRNOTAVAIL, true),
            (Errno::CONNREFUSED, false),
            (Errno::CONNRESET, false),
            (Errno::TIMEDOUT, false),
            (Errno::HOSTUNREACH, false),
        ] {
            let tally = UsageCounter::default();
            of(&io::Error::other(io::Error::from(errno)), &tally);
            let noted = tally.host_failure().map(|error| error.code);
            assert_eq!(noted.as_deref(), is_own.then_some(HOST_RESOURCES), "{errno:?}");
        }
    }
}
