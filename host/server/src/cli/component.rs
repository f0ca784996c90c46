//! A plugin's file with its signature file.

use std::path::{Path, PathBuf};

use super::failure::Failure;

/// A plugin's file, and the text of its signature file.
pub struct Component {
    pub bytes: Vec<u8>,
    pub signature: Option<String>,
}

impl Component {
    pub fn read(file: &Path) -> Result<Component, Failure> {
        let unreadable =
            |file: &Path, e: std::io::Error| Failure::Usage(format!("cannot read {}: {e}", file.display()));
        let bytes = std::fs::read(file).map_err(|e| unreadable(file, e))?;
        let mut beside = file.as_os_str().to_owned();
        beside.push(".minisig");
        let beside = PathBuf::from(beside);
        let signature = match std::fs::read_to_string(&beside) {
            Ok(text) => Some(text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(unreadable(&beside, e)),
        };
        Ok(Component { bytes, signature })
    }
}
