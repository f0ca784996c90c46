//! The plugins folder as bytes. Anyone who may write into it may run a plugin, so nothing outside of it
//! is read, and what is hashed is what is compiled.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use domain::id::{Digest, PluginName};
use sha2::{Digest as _, Sha256};

pub struct Candidate {
    pub plugin: PluginName,
    pub path: PathBuf,
}

pub struct PluginFile {
    pub plugin: PluginName,
    pub digest: Digest,
    pub bytes: Vec<u8>,
}

pub struct Listing {
    pub candidates: Vec<Candidate>,
    /// Files whose name is not a plugin's, and why.
    pub misnamed: Vec<(String, String)>,
}

/// The `*.wasm` files of the folder, in the order of their names. Hidden files are somebody's drafts.
pub fn list(dir: &Path) -> io::Result<Listing> {
    let mut listing = Listing { candidates: Vec::new(), misnamed: Vec::new() };
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(stem) = file.strip_suffix(".wasm").filter(|stem| !stem.starts_with('.')) else {
            continue;
        };
        match stem.parse() {
            Ok(plugin) => listing.candidates.push(Candidate { plugin, path }),
            Err(e) => listing.misnamed.push((file, format!("its name is not a plugin's: {e}"))),
        }
    }
    listing.candidates.sort_by(|a, b| a.plugin.cmp(&b.plugin));
    listing.misnamed.sort();
    Ok(listing)
}

/// Reads the file once, whole.
pub fn read(dir: &Path, candidate: &Candidate, bytes_max: usize) -> Result<PluginFile, String> {
    let unreadable = |e: io::Error| format!("it cannot be read: {e}");
    let home = dir.canonicalize().map_err(unreadable)?;
    let path = candidate.path.canonicalize().map_err(unreadable)?;
    if !path.starts_with(&home) {
        return Err(format!("it is a link to {}, outside of the plugins folder", path.display()));
    }
    // Before it is opened: opening a pipe would wait for its other end.
    if !fs::metadata(&path).map_err(unreadable)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let bound = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    let file = File::open(&path).map_err(unreadable)?;
    file.take(bound.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > bytes_max {
        return Err(format!("it is larger than {bytes_max} bytes"));
    }
    let digest = Digest(Sha256::digest(&bytes).into());
    Ok(PluginFile { plugin: candidate.plugin.clone(), digest, bytes })
}
