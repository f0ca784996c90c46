//! The memory that this process may use on this machine or in its container.

use std::fs;
use std::path::{Path, PathBuf};

use domain::limits::{KIB, MIB};

use super::text::show_bytes;

/// Memory of the host without its guests: code, caches, connections, requests to its API.
const HOST_BYTES: u64 = 192 * MIB as u64;
/// Assumed memory of the machine if it cannot be read.
const UNKNOWN_BYTES: u64 = 2_048 * MIB as u64;
/// One attempt of a job with default limits.
const GUESTS_MIN: u64 = 64 * MIB as u64;

/// The memory that this process may use, and the source of that number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    pub bytes: u64,
    pub source: String,
}

impl Machine {
    pub fn this() -> Machine {
        Machine::of(Path::new("/proc"))
    }

    /// The minimum of the machine's memory and the limits of all cgroups of this process.
    fn of(proc: &Path) -> Machine {
        let read = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
        let machine = total_in(&read("meminfo"))
            .map(|bytes| Machine { bytes, source: format!("the machine's {} (MemTotal)", rounded(bytes)) });
        let limits =
            limit_files(&read("self/cgroup"), &read("self/mountinfo")).into_iter().filter_map(|file| {
                let bytes = limit_in(&fs::read_to_string(&file).ok()?)?;
                let source = format!("the cgroup limit of {} ({})", rounded(bytes), file.display());
                Some(Machine { bytes, source })
            });
        let unknown =
            || Machine { bytes: UNKNOWN_BYTES, source: "a guess: /proc/meminfo cannot be read".to_owned() };
        machine.into_iter().chain(limits).min_by_key(|machine| machine.bytes).unwrap_or_else(unknown)
    }

    /// The default memory for all attempts together: two thirds of the machine's memory without the
    /// host's own. The rest is for discoveries, compilers, and data that the host buffers for its guests
    /// (SQL results, HTTP responses).
    pub fn for_guests(&self) -> u64 {
        let left = self.bytes.saturating_sub(HOST_BYTES) / 3 * 2;
        let bytes = left.max(self.bytes / 4).max(GUESTS_MIN);
        bytes / MIB as u64 * MIB as u64
    }

    /// The reason why this much memory for guests is too much for this machine, if it is.
    pub fn overcommitted_by(&self, guests: u64) -> Option<String> {
        let left = self.bytes.saturating_sub(HOST_BYTES);
        (guests > left).then(|| {
            let [guests, left] = [guests, left].map(rounded);
            format!("engine.memory is {guests}, and the host leaves {left} of {}", self.source)
        })
    }
}

fn rounded(bytes: u64) -> String {
    show_bytes(bytes / MIB as u64 * MIB as u64)
}

/// Parses `MemTotal:       24683520 kB`.
fn total_in(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(KIB as u64)
}

/// Parses a number of bytes; `max` is no limit. Version 1 has no `max`: its value for no
/// limit exceeds every machine.
fn limit_in(file: &str) -> Option<u64> {
    file.trim().parse().ok()
}

/// The files that may limit this process: those of its own cgroup and of all parents, in both versions.
fn limit_files(cgroup: &str, mountinfo: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in cgroup.lines() {
        // `4:memory:/a/b` in version 1, `0::/a/b` in version 2.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (kind, file) = match controllers {
            "" => ("cgroup2", "memory.max"),
            names if names.split(',').any(|name| name == "memory") => ("cgroup", "memory.limit_in_bytes"),
            _ => continue,
        };
        for (root, mount) in mounts(mountinfo, kind) {
            // Inside a container, the root of the mount may be below the path.
            let below = Path::new(path).strip_prefix(&root).unwrap_or(Path::new(""));
            files.extend(below.ancestors().map(|folder| mount.join(folder).join(file)));
        }
    }
    files
}

/// Root and mount point of each file system of this kind that may contain memory limits: `35 31 0:32 /
/// /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory`.
fn mounts(mountinfo: &str, kind: &str) -> Vec<(PathBuf, PathBuf)> {
    let mount = |line: &str| {
        let (about, system) = line.split_once(" - ")?;
        let mut about = about.split(' ').skip(3);
        let (root, point) = (about.next()?, about.next()?);
        let mut system = system.split(' ');
        let is_kind = system.next() == Some(kind);
        let options = system.nth(1).unwrap_or_default();
        let has_memory = kind == "cgroup2" || options.split(',').any(|option| option == "memory");
        (is_kind && has_memory).then(|| (PathBuf::from(unescaped(root)), PathBuf::from(unescaped(point))))
    };
    mountinfo.lines().filter_map(mount).collect()
}

/// The kernel writes a space in a path as `\040`.
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// Creates folders like /proc and /sys/fs/cgroup with these files.
    fn machine(cgroup: &str, mountinfo: &str, files: &[(&str, &str)]) -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/meminfo", "MemTotal:        8388608 kB\nMemFree:   1 kB\n");
        write("proc/self/cgroup", cgroup);
        write("proc/self/mountinfo", &mountinfo.replace("DIR", dir.path().to_str().unwrap()));
        files.iter().for_each(|(name, text)| write(name, text));
        let machine = Machine::of(&dir.path().join("proc"));
        let source = machine.source.replace(dir.path().to_str().unwrap(), "DIR");
        Machine { source, ..machine }
    }

    const V2: &str = "30 23 0:26 / DIR/cg rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "31 23 0:28 / DIR/cg/cpu rw - cgroup cgroup rw,cpu\n\
                      32 23 0:29 / DIR/cg/memory rw - cgroup cgroup rw,memory\n";

    #[test]
    fn without_a_limit_it_is_the_machine() {
        for (cgroup, mounts, file, text) in [
            ("", "", "x", ""),
            ("0::/\n", V2, "x", ""),
            ("0::/a\n", V2, "cg/a/memory.max", "max\n"),
            ("4:memory:/a\n", V1, "cg/memory/a/memory.limit_in_bytes", "9223372036854771712\n"),
            ("4:cpu:/a\n", V1, "cg/cpu/a/memory.limit_in_bytes", "1\n"),
            ("nonsense", "nonsense - ", "x", ""),
        ] {
            let machine = machine(cgroup, mounts, &[(file, text)]);
            assert_eq!((machine.bytes, machine.source.as_str()), (8 * GIB, "the machine's 8GiB (MemTotal)"));
        }
    }

    #[test]
    fn the_smallest_limit_of_nested_groups_counts() {
        let files = [
            ("cg/memory.max", "max\n"),
            ("cg/a/memory.max", "1073741824\n"),
            ("cg/a/b/memory.max", "2147483648\n"),
            ("cg/a/b/c/memory.max", "max\n"),
        ];
        let limited = machine("0::/a/b/c\n", V2, &files);
        assert_eq!(limited.bytes, GIB);
        assert_eq!(limited.source, "the cgroup limit of 1GiB (DIR/cg/a/memory.max)");
        let files = [("cg/memory/a/b/memory.limit_in_bytes", "629145600\n")];
        let limited = machine("9:pids:/x\n4:cpu,memory:/a/b\n0::/\n", V1, &files);
        assert_eq!(limited.source, "the cgroup limit of 600MiB (DIR/cg/memory/a/b/memory.limit_in_bytes)");
    }

    /// A container sees its own cgroup as the root of the mount, but may see the path
    /// outside of the container.
    #[test]
    fn a_mount_may_begin_at_the_group() {
        let mount = "32 23 0:29 /docker/abc DIR/cg\\040x rw - cgroup cgroup rw,memory\n";
        for path in ["/docker/abc", "/"] {
            let files = [("cg x/memory.limit_in_bytes", "536870912\n")];
            assert_eq!(machine(&format!("4:memory:{path}\n"), mount, &files).bytes, GIB / 2, "{path}");
        }
        let files = [("cg x/inner/memory.limit_in_bytes", "536870912\n")];
        assert_eq!(machine("4:memory:/docker/abc/inner\n", mount, &files).bytes, GIB / 2);
    }

    #[test]
    fn a_limit_above_the_machine_is_none() {
        let limited = machine("0::/\n", V2, &[("cg/memory.max", "99999999999999\n")]);
        assert_eq!(limited.bytes, 8 * GIB);
    }

    #[test]
    fn guests_get_what_the_host_leaves() {
        let guests = |mib: u64| {
            let machine = Machine { bytes: mib << 20, source: String::new() };
            machine.for_guests() >> 20
        };
        assert_eq!([64, 128, 256, 600, 1_024, 8_192].map(guests), [64, 64, 64, 272, 554, 5_333]);
        let machine = Machine { bytes: 600 << 20, source: "the cgroup limit of 600MiB (x)".to_owned() };
        assert_eq!(machine.overcommitted_by(408 << 20), None);
        let words = "engine.memory is 8GiB, and the host leaves 408MiB of the cgroup limit of 600MiB (x)";
        assert_eq!(machine.overcommitted_by(8 << 30).as_deref(), Some(words));
    }

    #[test]
    fn this_machine_is_read() {
        let machine = Machine::this();
        assert!(machine.bytes >= GUESTS_MIN && !machine.source.starts_with("a guess"), "{machine:?}");
    }
}
