//! The limit of this process's address space, and how much of it is left.

use std::fs;

use domain::limits::{KIB, MIB};
use rustix::process::{Resource, getrlimit};

/// Address space needed outside the pool: thread stacks, caches, buffers, compiled plugins.
const REST_BYTES: u64 = 2_048 * MIB as u64;

/// A message if too little is left.
pub fn lacking() -> Option<String> {
    let most = getrlimit(Resource::As).current?;
    let used = used()?;
    let left = most.saturating_sub(used);
    (left < REST_BYTES).then(|| {
        let [left, rest] = [left, REST_BYTES].map(|bytes| bytes / MIB as u64);
        format!("{left} MiB of address space are left for the rest of the host, which may need {rest} MiB")
    })
}

/// The limit as text.
pub fn bound() -> String {
    let most = getrlimit(Resource::As).current;
    most.map_or("no bound (ulimit -v)".to_owned(), |bytes| format!("{} MiB (ulimit -v)", bytes / MIB as u64))
}

fn used() -> Option<u64> {
    size_in(&fs::read_to_string("/proc/self/status").ok()?)
}

/// The size of the address space in the text of `/proc/self/status`.
fn size_in(status: &str) -> Option<u64> {
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    size.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(KIB as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_read_from_proc() {
        assert_eq!(size_in("Name:\tx\nVmPeak:\t  9 kB\nVmSize:\t  12 kB\n"), Some(12 * 1_024));
        assert_eq!(size_in("VmSize:\t18446744073709551615 kB"), None);
        assert_eq!(size_in("Name: x"), None);
        assert!(used().is_some_and(|bytes| bytes > MIB as u64));
    }
}
