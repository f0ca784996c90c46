//! Cache of compiled plugins, kept over restarts. The host executes this code, so an attacker must not be
//! able to add any. Each file therefore has a seal over the code and all of its inputs, which requires this
//! host's key.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use domain::id::{Digest, PluginName};
use domain::limits::MIB;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

/// The block size of HMAC-SHA256: a key of this size is used unchanged.
const KEY_BYTES: usize = 64;
const SEAL_BYTES: usize = 32;
/// The least recently used files are removed first.
const FILES_MAX: usize = 512;
const BYTES_MAX: u64 = 512 * MIB as u64;

/// The kind of a cached file, and its subject.
#[derive(Debug, Clone, Copy)]
pub enum Kept<'a> {
    /// The compiled code of a component.
    Code(Digest),
    /// The functions of the plugin version that was compiled last.
    Functions(&'a PluginName),
}

pub struct Cache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
    /// wasmtime's version and all settings that affect the code.
    settings: [u8; 32],
    drafts: AtomicU64,
}

impl Cache {
    pub fn open(data_dir: &Path, engine: &Engine) -> io::Result<Cache> {
        let folder = data_dir.join("compiled");
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => fs::set_permissions(&folder, Permissions::from_mode(0o700))?,
        }
        let key = key(&data_dir.join("compiled.key"))?;
        let mut settings = Settings(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut settings);
        Ok(Cache { folder, key, settings: settings.0.finalize().into(), drafts: AtomicU64::default() })
    }

    /// The content, if the file exists and its seal is valid.
    pub fn get(&self, kept: Kept<'_>) -> Option<Vec<u8>> {
        let path = self.path(kept);
        let mut bytes = fs::read(&path).ok()?;
        let Some((content, seal)) = bytes.split_last_chunk::<SEAL_BYTES>() else {
            return self.refuse(&path);
        };
        if self.seal("content", kept).chain_update(content).verify_slice(seal).is_err() {
            return self.refuse(&path);
        }
        // The modification time shows which files are still in use.
        let _ = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        bytes.truncate(bytes.len() - SEAL_BYTES);
        Some(bytes)
    }

    fn refuse(&self, path: &Path) -> Option<Vec<u8>> {
        tracing::warn!(file = %path.display(), "a compiled plugin was changed; it is compiled again");
        let _ = fs::remove_file(path);
        None
    }

    pub fn put(&self, kept: Kept<'_>, content: Vec<u8>) -> io::Result<()> {
        let seal = self.seal("content", kept).chain_update(&content).finalize().into_bytes();
        let path = self.path(kept);
        // Two versions of one plugin may be compiled at the same time.
        let draft = path.with_extension(format!("new-{}", self.drafts.fetch_add(1, Ordering::Relaxed)));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        let written = file.write_all(&content).and_then(|()| file.write_all(&seal));
        written.and_then(|()| fs::rename(&draft, &path)).inspect_err(|_| {
            let _ = fs::remove_file(&draft);
        })?;
        self.make_room()
    }

    fn make_room(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let about = entry.metadata()?;
            files.push((about.modified()?, about.size(), entry.path()));
        }
        files.sort();
        let (mut count, mut bytes) = (files.len(), files.iter().map(|(_, bytes, _)| bytes).sum::<u64>());
        for (_, size, path) in files {
            if count <= FILES_MAX && bytes <= BYTES_MAX {
                break;
            }
            fs::remove_file(path)?;
            (count, bytes) = (count - 1, bytes - size);
        }
        Ok(())
    }

    /// Without the key the name reveals nothing. A host of another version computes other names.
    fn path(&self, kept: Kept<'_>) -> PathBuf {
        let name = Digest(self.seal("name", kept).finalize().into_bytes().into());
        self.folder.join(name.to_string())
    }

    fn seal(&self, purpose: &str, kept: Kept<'_>) -> Hmac<Sha256> {
        let (kind, of) = match kept {
            Kept::Code(component) => ("code", component),
            Kept::Functions(plugin) => ("functions", Digest(Sha256::digest(plugin.as_str()).into())),
        };
        let mac = Hmac::<Sha256>::new(&self.key.into());
        // Unambiguous: different inputs never concatenate to the same text.
        mac.chain_update(purpose)
            .chain_update(" of ")
            .chain_update(kind)
            .chain_update(of.0)
            .chain_update(self.settings)
    }
}

/// This host's key. Created at the first start, and replaced if other users could have read or changed it.
fn key(file: &Path) -> io::Result<[u8; KEY_BYTES]> {
    if let Ok(mut held) = File::open(file) {
        let about = held.metadata()?;
        let mut key = [0; KEY_BYTES];
        let own = about.uid() == rustix::process::geteuid().as_raw() && about.mode() & 0o077 == 0;
        if own && about.size() == KEY_BYTES as u64 && held.read_exact(&mut key).is_ok() {
            return Ok(key);
        }
        tracing::warn!(file = %file.display(), "others could use this key: it is replaced, and plugins are compiled again");
    }
    let mut key = [0; KEY_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    let draft = file.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    made.write_all(&key)?;
    made.sync_all()?;
    fs::rename(&draft, file)?;
    Ok(key)
}

/// wasmtime's settings, hashed with a collision-resistant digest.
struct Settings(Sha256);

impl Hasher for Settings {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used.
    fn finish(&self) -> u64 {
        0
    }
}
