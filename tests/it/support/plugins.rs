//! The components that `cargo xtask plugins` built.

use std::path::{Path, PathBuf};

pub use test_support::plugins as built;

/// The file of a plugin: a shipped one, or a fixture.
pub fn file(name: &str) -> PathBuf {
    let candidates = [built().join(format!("{name}.wasm")), built().join(format!("fixtures/{name}.wasm"))];
    candidates
        .iter()
        .find(|file| file.is_file())
        .cloned()
        .unwrap_or_else(|| panic!("{name}.wasm is not built: run `cargo xtask plugins`"))
}

/// An example in another language, or the one in Rust.
pub fn example(language: &str) -> PathBuf {
    let file = built().join(format!("examples/{language}.wasm"));
    assert!(
        file.is_file(),
        "{} is not built: run `cargo xtask plugins` and `cargo xtask examples`",
        file.display()
    );
    file
}

/// Installs a built component in a plugins folder under a name, by rename, so that it is never half written.
pub fn install(folder: &Path, built_as: &str, name: &str) {
    place(folder, &file(built_as), name);
}

/// The same with any file.
pub fn place(folder: &Path, file: &Path, name: &str) {
    std::fs::create_dir_all(folder).unwrap();
    let draft = folder.join(format!(".{name}.new"));
    std::fs::copy(file, &draft).unwrap();
    std::fs::rename(&draft, folder.join(format!("{name}.wasm"))).unwrap();
}
