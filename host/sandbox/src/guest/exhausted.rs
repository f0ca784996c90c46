//! Errors that mean that this machine has run out of a resource. A resulting failure of a guest is not its
//! fault.

use std::error::Error;
use std::io;

use domain::failure::{ErrorInfo, HOST_RESOURCES};
use rustix::io::Errno;
use wasmtime::OutOfMemory;

/// The exhausted resource, and the remedy.
fn lacking(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::NOMEM => {
            "memory or address space: lower engine.memory, or raise the limits of memory (cgroup) and of address space (ulimit -v)"
        }
        Errno::MFILE => "open files of this process: raise ulimit -n",
        Errno::NFILE => "open files of this machine: raise fs.file-max",
        Errno::NOBUFS => "buffers for sockets: raise net.core.wmem_max, or send fewer requests at a time",
        Errno::ADDRNOTAVAIL => {
            "local ports: raise net.ipv4.ip_local_port_range, or send fewer requests at a time"
        }
        Errno::NOSPC | Errno::DQUOT => "disk space: make room",
        _ => return None,
    })
}

/// The host failure for the first of these errors that means exhaustion. Each error is the cause of the one
/// before.
pub fn of<'a>(causes: impl Iterator<Item = &'a (dyn Error + 'static)>) -> Option<ErrorInfo> {
    let known = |cause: &'a (dyn Error + 'static)| {
        if cause.is::<OutOfMemory>() {
            return lacking(Errno::NOMEM);
        }
        let of_io = || cause.downcast_ref::<io::Error>().and_then(Errno::from_io_error);
        lacking(cause.downcast_ref::<Errno>().copied().or_else(of_io)?)
    };
    causes
        .filter_map(|cause| Some((known(cause)?, cause.to_string())))
        .last()
        .map(|(what, cause)| ErrorInfo::new(HOST_RESOURCES, format!("the host ran out of {what} ({cause})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code_of(error: &wasmtime::Error) -> Option<String> {
        of(error.chain()).map(|error| error.code)
    }

    #[test]
    fn errors_of_the_machine_are_known_however_deep_they_are() {
        for errno in
            [Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL, Errno::NOSPC]
        {
            let own =
                wasmtime::Error::new(errno).context("mmap failed to reserve 0x1000 bytes").context("outer");
            assert_eq!(code_of(&own).as_deref(), Some(HOST_RESOURCES), "{errno:?}");
            let of_io = wasmtime::Error::new(io::Error::from(errno)).context("socket");
            assert_eq!(code_of(&of_io).as_deref(), Some(HOST_RESOURCES), "{errno:?}");
        }
    }

    #[test]
    fn other_errors_are_not() {
        for error in [
            wasmtime::Error::new(wasmtime::Trap::UnreachableCodeReached),
            wasmtime::Error::new(Errno::CONNREFUSED).context("connect"),
            wasmtime::Error::new(io::Error::other("Cannot allocate memory")),
        ] {
            assert_eq!(code_of(&error), None, "{error:?}");
        }
    }
}
