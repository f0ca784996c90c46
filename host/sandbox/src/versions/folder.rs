//! Reads the plugins folder. Write access to the folder is permission to run plugins, so no file outside of
//! it is read. The bytes that are hashed are the bytes that are compiled.

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

/// A signature file has four lines.
const SIGNATURE_BYTES_MAX: usize = 4 << 10;
const HASH_BLOCK_BYTES: usize = 64 << 10;
/// Attempts to open a file while folders on its path are being moved.
const TRIES_MAX: u32 = 16;

/// The folder as opened; a later change of its path has no effect.
pub struct Folder {
    handle: OwnedFd,
}

#[derive(Clone)]
pub struct PluginFile {
    pub plugin: PluginName,
    pub digest: Digest,
    pub bytes: Vec<u8>,
    /// The text of the signature file, if there is one.
    pub signature: Option<String>,
}

impl PluginFile {
    pub fn of(plugin: PluginName, bytes: Vec<u8>, signature: Option<String>) -> PluginFile {
        let digest = Digest(Sha256::digest(&bytes).into());
        PluginFile { plugin, digest, bytes, signature }
    }
}

/// The content of a file.
pub enum Content {
    Whole(PluginFile),
    /// Only the digest was computed.
    TooLarge {
        digest: Digest,
        size_bytes: u64,
    },
}

pub struct Listing {
    pub plugins: Vec<PluginName>,
    /// Files whose name is not a valid plugin name, and why.
    pub misnamed: Vec<(String, String)>,
}

impl Folder {
    pub fn open(dir: &Path) -> io::Result<Folder> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Folder { handle: open(dir, flags, Mode::empty())? })
    }

    /// The `*.wasm` files, sorted by name. Hidden files are treated as drafts and skipped.
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

    /// Whether every user of this machine may add a plugin. A mounted read-only volume often has such a mode,
    /// but cannot be written.
    pub fn is_open_to_all(&self) -> io::Result<bool> {
        let may_write = Mode::from_raw_mode(fstat(&self.handle)?.st_mode).contains(Mode::WOTH);
        Ok(may_write && !fstatvfs(&self.handle)?.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    /// Reads the whole file once. Its metadata is read after opening, so the file cannot be replaced in
    /// between. A file larger than `bytes_max` is only hashed, and above `hashed_max` not even that.
    pub fn read(&self, plugin: &PluginName, bytes_max: usize, hashed_max: usize) -> Result<Content, String> {
        let (file, size_bytes) = self.regular(&format!("{plugin}.wasm"))?;
        if size_bytes > hashed_max as u64 {
            return Err(format!(
                "it is larger than {hashed_max} bytes, the most that plugins.component_size can allow"
            ));
        }
        if size_bytes > bytes_max as u64 {
            let (digest, size_bytes) = hashed(file.take(hashed_max as u64)).map_err(unreadable)?;
            return Ok(Content::TooLarge { digest, size_bytes });
        }
        let bytes = whole(file, bytes_max)?;
        Ok(Content::Whole(PluginFile::of(plugin.clone(), bytes, self.signature(plugin))))
    }

    /// A signature that cannot be read counts as missing.
    fn signature(&self, plugin: &PluginName) -> Option<String> {
        let (file, _) = self.regular(&format!("{plugin}.wasm.minisig")).ok()?;
        let bytes = whole(file, SIGNATURE_BYTES_MAX).ok()?;
        String::from_utf8(bytes).ok()
    }

    /// Opens a regular file and returns it with its size.
    fn regular(&self, file: &str) -> Result<(File, u64), String> {
        let file = self.open_beneath(file).map_err(unopened)?;
        let about = fstat(&file).map_err(|e| unreadable(e.into()))?;
        if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile {
            return Err("it is not a regular file".to_owned());
        }
        Ok((File::from(file), u64::try_from(about.st_size).unwrap_or(0)))
    }

    /// Follows links that stay inside the folder. Does not block: opening a pipe would wait for its other
    /// end.
    fn open_beneath(&self, file: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let mut tried = 0;
        loop {
            tried += 1;
            match openat2(&self.handle, file, flags, Mode::empty(), within) {
                // The kernel could not verify a link with `..`, because folders were moved at the same time.
                Err(Errno::AGAIN | Errno::INTR) if tried < TRIES_MAX => {}
                opened => return opened,
            }
        }
    }
}

/// All bytes of a file, which may grow while it is read.
fn whole(file: File, bytes_max: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    file.take(bound.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > bytes_max {
        return Err(format!("it grew beyond {bytes_max} bytes while it was read"));
    }
    Ok(bytes)
}

/// Digest and size of a file that is not kept in memory.
fn hashed(mut file: impl Read) -> io::Result<(Digest, u64)> {
    let (mut hash, mut size_bytes) = (Sha256::new(), 0);
    let mut block = vec![0; HASH_BLOCK_BYTES];
    loop {
        match file.read(&mut block)? {
            0 => return Ok((Digest(hash.finalize().into()), size_bytes)),
            bytes => {
                hash.update(block.get(..bytes).unwrap_or_default());
                size_bytes += bytes as u64;
            }
        }
    }
}

fn unreadable(error: io::Error) -> String {
    format!("it cannot be read: {error}")
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
