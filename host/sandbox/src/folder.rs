//! The plugins folder as bytes. Anyone who may write into it may run a plugin, so nothing outside of it
//! is read, and what is hashed is what is compiled.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use domain::id::{Digest, PluginName};
use rustix::fs::{
    Dir, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags, fstat, fstatvfs, open, openat2,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

/// Four lines.
const SIGNATURE_BYTES_MAX: usize = 4 << 10;
/// Tries to open a file while folders on its way are being moved.
const TRIES_MAX: u32 = 16;

/// The folder as it was when it was opened, wherever its path leads by now.
pub struct Folder {
    handle: OwnedFd,
}

#[derive(Clone)]
pub struct PluginFile {
    pub plugin: PluginName,
    pub digest: Digest,
    pub bytes: Vec<u8>,
    /// The text of the file beside it, if there is one.
    pub signature: Option<String>,
}

impl PluginFile {
    pub fn of(plugin: PluginName, bytes: Vec<u8>, signature: Option<String>) -> PluginFile {
        let digest = Digest(Sha256::digest(&bytes).into());
        PluginFile { plugin, digest, bytes, signature }
    }
}

pub struct Listing {
    pub plugins: Vec<PluginName>,
    /// Files whose name is not a plugin's, and why.
    pub misnamed: Vec<(String, String)>,
}

impl Folder {
    pub fn open(dir: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder { handle: open(dir, flags, Mode::empty())? })
    }

    /// Its `*.wasm` files, in the order of their names. Hidden files are somebody's drafts.
    pub fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing { plugins: Vec::new(), misnamed: Vec::new() };
        for entry in Dir::read_from(&self.handle)? {
            let file = entry?.file_name().to_string_lossy().into_owned();
            let Some(stem) = file.strip_suffix(".wasm").filter(|stem| !stem.starts_with('.')) else {
                continue;
            };
            match stem.parse() {
                Ok(plugin) => listing.plugins.push(plugin),
                Err(e) => listing.misnamed.push((file, format!("its name is not a plugin's: {e}"))),
            }
        }
        listing.plugins.sort();
        listing.misnamed.sort();
        Ok(listing)
    }

    /// Whether everyone on this machine may put a plugin there. A mounted volume often has such a mode,
    /// and nobody can write to it.
    pub fn is_open_to_all(&self) -> io::Result<bool> {
        let may_write = Mode::from_raw_mode(fstat(&self.handle)?.st_mode).contains(Mode::WOTH);
        Ok(may_write && !fstatvfs(&self.handle)?.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    /// Reads the file once, whole. It is looked at after it was opened, so nothing can be put in its place in between.
    pub fn read(&self, plugin: &PluginName, bytes_max: usize) -> Result<PluginFile, String> {
        let bytes = self.bytes(&format!("{plugin}.wasm"), bytes_max)?;
        Ok(PluginFile::of(plugin.clone(), bytes, self.signature(plugin)))
    }

    /// One that cannot be read is as good as none.
    fn signature(&self, plugin: &PluginName) -> Option<String> {
        let bytes = self.bytes(&format!("{plugin}.wasm.minisig"), SIGNATURE_BYTES_MAX).ok()?;
        String::from_utf8(bytes).ok()
    }

    fn bytes(&self, file: &str, bytes_max: usize) -> Result<Vec<u8>, String> {
        let file = self.open_beneath(file).map_err(unopened)?;
        let unreadable = |e: io::Error| format!("it cannot be read: {e}");
        let kind = fstat(&file).map_err(|e| unreadable(e.into()))?.st_mode;
        if FileType::from_raw_mode(kind) != FileType::RegularFile {
            return Err("it is not a regular file".to_owned());
        }
        let mut bytes = Vec::new();
        let bound = u64::try_from(bytes_max).unwrap_or(u64::MAX);
        File::from(file).take(bound.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > bytes_max {
            return Err(format!("it is larger than {bytes_max} bytes"));
        }
        Ok(bytes)
    }

    /// Follows links, as long as none of them leaves the folder. Not blocking: a pipe would wait for its other end.
    fn open_beneath(&self, file: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut tried = 0;
        loop {
            tried += 1;
            match openat2(&self.handle, file, flags, Mode::empty(), within) {
                // The kernel could not tell whether a link that goes up stays inside, because folders moved meanwhile.
                Err(Errno::AGAIN | Errno::INTR) if tried < TRIES_MAX => {}
                opened => return opened,
            }
        }
    }
}

fn unopened(error: Errno) -> String {
    match error {
        Errno::XDEV => "it is a link that leaves the plugins folder (links inside of it have to be relative)",
        Errno::LOOP => "it is a link to itself, or to something that is not a file",
        Errno::NXIO | Errno::NODEV => "it is not a regular file",
        Errno::NOSYS => {
            "this kernel cannot open files safely: openat2 is missing (Linux 5.6 or newer has it)"
        }
        other => return format!("it cannot be read: {}", io::Error::from(other)),
    }
    .to_owned()
}
