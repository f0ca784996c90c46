//! A small disk that only one host sees, so that it can be filled: a tmpfs in the mount namespace of that
//! process. It disappears with the process, however that ends.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use test_support::is_root;

const BLOCK: [u8; 4_096] = [0; 4_096];
/// `$0` is the mount point, `$1` the size; the rest is the command.
const MOUNT: &str = r#"mount -t tmpfs -o size="$1" tmpfs "$0" && shift && exec "$@""#;

pub struct Volume {
    dir: TempDir,
    bytes: u64,
}

impl Volume {
    pub fn new(bytes: u64) -> Volume {
        Volume { dir: tempfile::tempdir().unwrap(), bytes }
    }

    /// The path of a file in the volume, for the host.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The command that starts a host with this volume. Without the right to mount, it creates a user
    /// namespace that has it.
    pub fn wrapper(&self) -> Vec<String> {
        let root = is_root();
        let unshare =
            if root { vec!["unshare", "--mount"] } else { vec!["unshare", "--map-root-user", "--mount"] };
        let (dir, bytes) = (self.dir.path().display().to_string(), self.bytes.to_string());
        let words = unshare.into_iter().chain(["sh", "-c", MOUNT]).map(str::to_owned);
        words.chain([dir, bytes]).collect()
    }

    /// The path of the volume for other processes, while the process `pid` runs.
    pub fn seen_from_outside(&self, pid: u32) -> PathBuf {
        let inside = self.dir.path().strip_prefix("/").unwrap();
        Path::new("/proc").join(pid.to_string()).join("root").join(inside)
    }

    /// Fills all remaining space.
    pub fn fill(&self, pid: u32) {
        let filler = self.seen_from_outside(pid).join("filler");
        let mut filler = File::options().append(true).create(true).open(filler).unwrap();
        loop {
            match filler.write(&BLOCK) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("the small disk cannot be filled: {error}"),
            }
        }
    }

    pub fn free(&self, pid: u32) {
        std::fs::remove_file(self.seen_from_outside(pid).join("filler")).unwrap();
    }
}
