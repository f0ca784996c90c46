//! The inputs of an example: a folder with its sources and the contract, and a hash of
//! everything that its component depends on.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::recipes::{self, Recipe};
use super::tools::{self, Kind};
use super::{SOURCES, TARGET};

/// A hash of the sources, the contract, the versions of the tools, and the commands of all recipes.
pub fn stamp(root: &Path, recipe: &Recipe) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    recipes::SOURCE.hash(&mut hasher);
    files(&root.join(SOURCES).join(recipe.language))?.hash(&mut hasher);
    contract(root)?.hash(&mut hasher);
    for kind in recipe.tools {
        tools::pins(root, *kind)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// Creates an empty folder with the sources, and with the contract in `wit`.
pub fn lay_out(root: &Path, recipe: &Recipe) -> Result<PathBuf> {
    let folder = root.join(TARGET).join(recipe.language);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    }
    write(&folder, files(&root.join(SOURCES).join(recipe.language))?)?;
    write(&folder.join("wit"), contract(root)?)?;
    Ok(folder)
}

/// The contract, and the world of the examples.
fn contract(root: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut all = files(&root.join("wit"))?;
    all.retain(|path, _| path.extension().is_some_and(|extension| extension == "wit"));
    all.extend(files(&root.join(SOURCES).join("wit"))?);
    Ok(all)
}

/// All files in a folder and its subfolders, by their relative path.
pub fn files(folder: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        let entries =
            fs::read_dir(&current).with_context(|| format!("failed to read {}", current.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
            all.insert(path.strip_prefix(folder)?.to_owned(), bytes);
        }
    }
    Ok(all)
}

pub fn write(folder: &Path, files: BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    for (path, bytes) in files {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).with_context(|| format!("failed to make {}", parent.display()))?;
        fs::write(&path, bytes).with_context(|| format!("failed to write {}", path.display()))?;
    }
    Ok(())
}

impl Recipe {
    pub fn needs(&self, kind: Kind) -> bool {
        self.tools.contains(&kind)
    }
}
