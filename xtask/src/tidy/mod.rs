//! `cargo xtask tidy`: rules that the compiler does not check. Each rule is a function from the tree to its
//! findings; a finding names the problem, its place and the remedy.

mod floors;
mod prose;
mod sizes;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{host, sh};

type Check = fn(&Tree) -> Vec<Finding>;

/// Name and check of each rule.
const RULES: [(&str, Check); 10] = [
    ("floors", floors::edges),
    ("heavy crates", floors::heavy_crates),
    ("capabilities", floors::capabilities),
    ("file size", sizes::files),
    ("function length", sizes::functions),
    ("left-overs", words::left_overs),
    ("prints in libraries", words::prints_in_libraries),
    ("sleeps in tests", words::sleeps_in_tests),
    ("places", words::places),
    ("prose", prose::prose),
];

/// The input of the rules.
#[derive(Default)]
struct Tree {
    files: Vec<File>,
    crates: Vec<Crate>,
}

/// A file that is in git or would be after the next `git add`.
struct File {
    /// Relative to the root of the repository.
    path: String,
    bytes: u64,
    /// Empty if the file is not UTF-8.
    text: String,
}

/// A crate of the host's workspace.
struct Crate {
    name: String,
    dependencies: Vec<String>,
}

struct Finding {
    place: String,
    what: String,
    remedy: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    {}", self.place, self.what, self.remedy)
    }
}

impl File {
    /// The lines with their numbers, starting at 1 as in editors.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// The line from which on the file contains only tests.
    fn first_test_line(&self) -> usize {
        let inline = self.lines().zip(self.text.lines().skip(1)).find(|((_, line), next)| {
            line.trim() == "#[cfg(test)]" && next.trim().starts_with("mod ") && next.ends_with('{')
        });
        match inline {
            _ if self.is_test() => 1,
            Some(((number, _), _)) => number,
            None => usize::MAX,
        }
    }
}

pub fn run(root: &Path) -> Result<()> {
    let tree = Tree { files: read_files(root)?, crates: read_crates(root)? };
    let mut count = 0;
    for (name, check) in RULES {
        for finding in check(&tree) {
            eprintln!("{finding} [{name}]");
            count += 1;
        }
    }
    if count > 0 {
        bail!("tidy found {count} things to put right");
    }
    eprintln!("tidy: {} files, {} rules, nothing found", tree.files.len(), RULES.len());
    Ok(())
}

fn read_files(root: &Path) -> Result<Vec<File>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = sh::output(&mut git)?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // A deleted file is listed until the deletion is committed.
        let Ok(content) = std::fs::read(root.join(path)) else {
            continue;
        };
        let bytes = content.len() as u64;
        let text = String::from_utf8(content).unwrap_or_default();
        files.push(File { path: path.to_owned(), bytes, text });
    }
    Ok(files)
}

fn read_crates(root: &Path) -> Result<Vec<Crate>> {
    let mut cargo = host::cargo(root);
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let metadata: serde_json::Value = serde_json::from_str(&sh::output(&mut cargo)?)?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    Ok(packages.iter().map(read_crate).collect())
}

fn read_crate(package: &serde_json::Value) -> Crate {
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap_or_default().to_owned();
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    Crate { name: name(package), dependencies: dependencies.map(name).collect() }
}
