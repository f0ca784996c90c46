//! Which crates may import which, and which may depend on a heavy crate.

use super::{Crate, Finding, Tree};

/// Imports go down only: a crate, and all of our crates that it may import (in tests too).
const FLOORS: [(&str, &[&str]); 10] = [
    ("domain", &[]),
    ("store", &["domain", "test-support"]),
    ("sandbox", &["domain", "test-support"]),
    ("engine", &["domain", "store", "test-support"]),
    ("server", &["domain", "store", "sandbox", "engine", "demo"]),
    ("demo", &["test-support"]),
    ("it", &["domain", "store", "sandbox", "engine", "server", "demo", "test-support"]),
    ("test-support", &[]),
    ("simulation", &["domain", "store", "engine"]),
    ("xtask", &[]),
];

/// A crate (or all crates whose names begin with it and a dash), and the crates that may depend on it.
const HEAVY: [(&str, &[&str]); 7] = [
    ("sqlx", &["store", "demo", "it", "test-support"]),
    ("libsqlite3-sys", &["store"]),
    ("wasmtime", &["sandbox"]),
    ("axum", &["server", "demo"]),
    ("clap", &["server", "xtask"]),
    ("async-nats", &["server", "it"]),
    ("redis", &["server", "it"]),
];

const WORLD: &str = "wit/world.wit";
const CAPABILITIES: &str = "host/sandbox/src/guest/capabilities/";

pub fn edges(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for member in &tree.crates {
        let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == member.name) else {
            found.push(Finding {
                place: format!("crate {}", member.name),
                what: "is on no floor".to_owned(),
                remedy: "give it a line in FLOORS (xtask/src/tidy/floors.rs) and a reason in docs/decisions.md",
            });
            continue;
        };
        for dependency in &member.dependencies {
            let ours = FLOORS.iter().any(|(name, _)| name == dependency);
            if ours && !allowed.contains(&dependency.as_str()) {
                found.push(Finding {
                    place: manifest_line(tree, member, dependency),
                    what: format!("`{}` must not depend on `{dependency}`", member.name),
                    remedy: "imports go down only: move the shared part to a lower floor, or hand it in from above",
                });
            }
        }
    }
    found
}

pub fn heavy_crates(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for member in &tree.crates {
        for dependency in &member.dependencies {
            let heavy = HEAVY.iter().find(|(name, _)| {
                dependency.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
            });
            if heavy.is_some_and(|(_, users)| !users.contains(&member.name.as_str())) {
                found.push(Finding {
                    place: manifest_line(tree, member, dependency),
                    what: format!("`{}` must not name `{dependency}`", member.name),
                    remedy: "go through the crate that owns it (HEAVY in xtask/src/tidy/floors.rs)",
                });
            }
        }
    }
    found
}

/// Each import of the world has its file in the sandbox: `wasi:config/store` is `config.rs`, `sql` is
/// `sql.rs`.
pub fn capabilities(tree: &Tree) -> Vec<Finding> {
    let exists = |path: &str| tree.files.iter().any(|file| file.path.starts_with(path));
    let Some(world) = tree.files.iter().find(|file| file.path == WORLD) else {
        return Vec::new();
    };
    if !exists(CAPABILITIES) {
        return Vec::new();
    }
    let imports = world.lines().filter_map(|(number, line)| {
        let import = line.trim().strip_prefix("import ")?.trim_end_matches(';');
        let package = import.split('/').next().unwrap_or(import);
        Some((number, package.rsplit(':').next().unwrap_or(package)))
    });
    let without = imports.filter(|(_, name)| !exists(&format!("{CAPABILITIES}{name}.rs")));
    let finding = |(number, name)| Finding {
        place: format!("{WORLD}:{number}"),
        what: format!("the import `{name}` has no {CAPABILITIES}{name}.rs"),
        remedy: "one file per imported interface: add it, or take the import out of the world",
    };
    without.map(finding).collect()
}

/// The line of the dependency in the manifest; the crate's name if the manifest cannot be found.
fn manifest_line(tree: &Tree, member: &Crate, dependency: &str) -> String {
    let own_name = format!("name = \"{}\"", member.name);
    let manifest = tree
        .files
        .iter()
        .find(|file| file.path.ends_with("Cargo.toml") && file.text.lines().any(|line| line == own_name));
    let Some(manifest) = manifest else {
        return format!("crate {}", member.name);
    };
    let names_it = |line: &str| {
        let rest = line.strip_prefix(dependency);
        rest.is_some_and(|rest| rest.starts_with('.') || rest.starts_with(' '))
    };
    match manifest.lines().find(|(_, line)| names_it(line)) {
        Some((number, _)) => format!("{}:{number}", manifest.path),
        None => manifest.path.clone(),
    }
}
