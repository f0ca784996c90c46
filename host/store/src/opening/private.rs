//! Folders and files that only the host's own user may read, because they hold payloads and the hashes of
//! tokens. None of this depends on the process's umask.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const FOLDER: u32 = 0o700;
const FILE: u32 = 0o600;
/// Permissions of group and others.
const OTHERS: u32 = 0o077;
/// Users with write access to such a folder share it, as with `/tmp`.
const STICKY: u32 = 0o1000;

/// Creates a folder and its missing parents for this user only. An existing folder is not changed.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(FOLDER).create(folder) {
        // The umask may have removed permissions, even those of the owner.
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(FOLDER)),
        Err(_) if folder.is_dir() => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let above = folder.parent().filter(|above| *above != Path::new("")).ok_or(error)?;
            make_folder(above)?;
            make_folder(folder)
        }
        Err(error) => Err(error),
    }
}

/// Opens a file for writing with `options`. A new file is for this user only.
pub fn open(options: &mut OpenOptions, file: &Path) -> io::Result<File> {
    let existed = file.exists();
    let opened = options.mode(FILE).open(file)?;
    if !existed {
        opened.set_permissions(Permissions::from_mode(FILE))?;
    }
    Ok(opened)
}

/// Creates or truncates a file. It is for this user only, also if it existed.
pub fn create(file: &Path) -> io::Result<File> {
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE).open(file)?;
    opened.set_permissions(Permissions::from_mode(FILE))?;
    Ok(opened)
}

/// Removes the permissions of others on a folder or file of the host, and logs it. A missing path is skipped.
/// If the permissions cannot be changed, a warning is logged.
pub fn tighten(path: &Path) {
    let Ok(about) = fs::metadata(path) else { return };
    let mode = about.mode() & 0o7777;
    if mode & OTHERS == 0 {
        return;
    }
    let path_shown = path.display();
    let was = format!("{mode:04o}");
    let is_ours = about.uid() == rustix::process::geteuid().as_raw();
    if !is_ours || (about.is_dir() && mode & STICKY != 0) {
        tracing::warn!(path = %path_shown, mode = was, "other users can read this: give the host a folder of its own");
        return;
    }
    let now = mode & !OTHERS;
    match fs::set_permissions(path, Permissions::from_mode(now)) {
        Ok(()) => {
            let now = format!("{now:04o}");
            tracing::warn!(path = %path_shown, was, now, "other users could read this: its permissions were corrected");
        }
        Err(error) => {
            tracing::warn!(path = %path_shown, mode = was, %error, "other users can read this: make it private to the host's user");
        }
    }
}
