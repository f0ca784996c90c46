use std::collections::BTreeSet;
use std::path::Path;

use super::inputs;
use super::recipes::ALL;
use super::tools::{self, Kind};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn every_example_but_the_one_in_rust_has_a_recipe() {
    let files = inputs::files(&root().join(super::SOURCES)).unwrap();
    let jobs = files.keys().filter(|file| file.file_stem().is_some_and(|stem| stem == "job"));
    let folders: BTreeSet<_> = jobs.map(|file| file.parent().unwrap().to_str().unwrap()).collect();
    assert_eq!(folders, ALL.iter().map(|recipe| recipe.language).collect());
}

#[test]
fn authors_are_shown_the_versions_that_are_installed() {
    let readme = std::fs::read_to_string(root().join(super::SOURCES).join("README.md")).unwrap();
    let python = tools::pins(root(), Kind::Python).unwrap();
    let python =
        python.lines().filter(|line| line.contains("==")).map(|line| line.trim_end_matches([' ', '\\']));
    let generator = tools::pins(root(), Kind::WitBindgen).unwrap();
    let generator = format!("cargo install wit-bindgen-cli --version {generator} ");
    for pinned in python.map(str::to_owned).chain([generator]) {
        assert!(readme.contains(&pinned), "{pinned}");
    }
}

#[test]
fn a_stamp_changes_with_the_example() {
    let stamps: BTreeSet<_> = ALL.iter().map(|recipe| inputs::stamp(root(), recipe).unwrap()).collect();
    assert_eq!(stamps.len(), ALL.len());
    assert_eq!(inputs::stamp(root(), &ALL[0]).unwrap(), inputs::stamp(root(), &ALL[0]).unwrap());
}
