//! Permissions of the files that the host creates. These tests run with the machine's umask.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::opening::private::{create, make_folder, open, tighten};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn folders_that_are_made_are_private_and_others_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    set_mode(dir.path(), 0o755);
    let deep = dir.path().join("a/b/c");
    make_folder(&deep).unwrap();
    make_folder(&deep).unwrap();
    for path in ["a", "a/b", "a/b/c"] {
        assert_eq!(mode(&dir.path().join(path)), 0o700, "{path}");
    }
    assert_eq!(mode(dir.path()), 0o755);
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(make_folder(&dir.path().join("file")).is_err());
    assert!(make_folder(&dir.path().join("file/below")).is_err());
}

#[test]
fn files_that_are_made_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("new");
    open(OpenOptions::new().create(true).append(true), &file).unwrap();
    assert_eq!(mode(&file), 0o600);
    set_mode(&file, 0o644);
    open(OpenOptions::new().create(true).append(true), &file).unwrap();
    assert_eq!(mode(&file), 0o644, "a file that exists is left as it is");
    create(&file).unwrap();
    assert_eq!(mode(&file), 0o600);
}

#[test]
fn only_permissions_of_others_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for (was, is) in
        [(0o644, 0o600), (0o666, 0o600), (0o440, 0o400), (0o600, 0o600), (0o755, 0o700), (0o604, 0o600)]
    {
        set_mode(&file, was);
        tighten(&file);
        assert_eq!(mode(&file), is, "{was:o}");
    }
    set_mode(&file, 0o600);
    set_mode(dir.path(), 0o1777);
    tighten(dir.path());
    assert_eq!(mode(dir.path()), 0o1777, "a folder that is shared, like /tmp");
    set_mode(dir.path(), 0o755);
    tighten(dir.path());
    assert_eq!(mode(dir.path()), 0o700);
    tighten(&dir.path().join("nothing"));
}
