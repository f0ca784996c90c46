//! The toolchains of the examples, in `target/examples/tools`: from npm, PyPI and crates.io, each with pinned
//! versions.
//! Each kind is installed once, and again when its pins change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::recipes::Recipe;
use super::{SOURCES, TARGET, inputs};
use crate::{host, sh};

/// The generator of bindings for C and Go.
const WIT_BINDGEN: &str = "0.63.0";
/// From jco's package: adapts WASI preview 1 to preview 2.
const ADAPTER: &str = "node_modules/@bytecodealliance/jco/lib/wasi_snapshot_preview1.reactor.wasm";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Npm,
    Python,
    WitBindgen,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Npm, Kind::Python, Kind::WitBindgen];

    fn folder(self, root: &Path) -> PathBuf {
        let name = match self {
            Kind::Npm => "npm",
            Kind::Python => "python",
            Kind::WitBindgen => "wit-bindgen",
        };
        root.join(TARGET).join("tools").join(name)
    }
}

/// The installed toolchains.
pub struct Tools {
    root: PathBuf,
}

impl Tools {
    /// A program of an npm package.
    pub fn npm(&self, program: &str, folder: &Path) -> Command {
        self.command(&Kind::Npm.folder(&self.root).join("node_modules/.bin").join(program), folder)
    }

    /// A program of a PyPI package.
    pub fn python(&self, program: &str, folder: &Path) -> Command {
        self.command(&Kind::Python.folder(&self.root).join("bin").join(program), folder)
    }

    pub fn wit_bindgen(&self, folder: &Path) -> Command {
        self.command(&Kind::WitBindgen.folder(&self.root).join("bin/wit-bindgen"), folder)
    }

    pub fn adapter(&self) -> PathBuf {
        Kind::Npm.folder(&self.root).join(ADAPTER)
    }

    /// The Go package that generated code imports.
    pub fn go_runtime(&self) -> PathBuf {
        Kind::WitBindgen.folder(&self.root).join("go")
    }

    /// A command with all caches in our own folder.
    fn command(&self, program: &Path, folder: &Path) -> Command {
        let caches = self.root.join(TARGET).join("caches");
        let mut command = Command::new(program);
        command.current_dir(folder);
        command.env("GOCACHE", caches.join("go")).env("GOPATH", caches.join("gopath"));
        command.env("ZIG_GLOBAL_CACHE_DIR", caches.join("zig"));
        command.env("ZIG_LOCAL_CACHE_DIR", caches.join("zig-local"));
        command
    }
}

/// Installs the toolchains of these recipes, all kinds in parallel: most of the time is spent on the network.
pub fn install(root: &Path, recipes: &[&Recipe]) -> Result<Tools> {
    let needed = Kind::ALL.into_iter().filter(|kind| recipes.iter().any(|recipe| recipe.needs(*kind)));
    thread::scope(|scope| {
        let started: Vec<_> = needed.map(|kind| scope.spawn(move || install_once(root, kind))).collect();
        started.into_iter().try_for_each(|install| match install.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    Ok(Tools { root: root.to_owned() })
}

/// The text that determines the installed versions.
pub fn pins(root: &Path, kind: Kind) -> Result<String> {
    let files = match kind {
        Kind::Npm => ["package.json", "package-lock.json"].as_slice(),
        Kind::Python => &["requirements.txt"],
        Kind::WitBindgen => return Ok(WIT_BINDGEN.to_owned()),
    };
    let read = |name: &&str| {
        let file = root.join(SOURCES).join("toolchains").join(name);
        fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))
    };
    files.iter().map(read).collect()
}

fn install_once(root: &Path, kind: Kind) -> Result<()> {
    let folder = kind.folder(root);
    let stamp = folder.with_extension("stamp");
    let pins = pins(root, kind)?;
    if fs::read_to_string(&stamp).is_ok_and(|old| old == pins) && folder.is_dir() {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    eprintln!("installing toolchains of the examples into {} ...", folder.display());
    let started = Instant::now();
    match kind {
        Kind::Npm => from_npm(root, &folder)?,
        Kind::Python => from_pypi(root, &folder)?,
        Kind::WitBindgen => wit_bindgen(root, &folder)?,
    }
    fs::write(&stamp, pins).with_context(|| format!("failed to write {}", stamp.display()))?;
    eprintln!("{}: installed in {:.1} s", folder.display(), started.elapsed().as_secs_f64());
    Ok(())
}

fn from_npm(root: &Path, folder: &Path) -> Result<()> {
    if sh::output(Command::new("npm").arg("--version")).is_err() {
        sh::install("npm")?;
    }
    for name in ["package.json", "package-lock.json"] {
        let file = root.join(SOURCES).join("toolchains").join(name);
        fs::copy(&file, folder.join(name)).with_context(|| format!("failed to copy {}", file.display()))?;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(folder).args(["ci", "--ignore-scripts", "--no-fund", "--no-audit"]);
    sh::output(&mut npm).map(drop)
}

fn from_pypi(root: &Path, folder: &Path) -> Result<()> {
    let environment = || sh::output(Command::new("python3").args(["-m", "venv"]).arg(folder));
    if environment().is_err() {
        // Debian has this Python module in a separate package.
        sh::install("python3-venv")?;
        environment()?;
    }
    let mut pip = Command::new(folder.join("bin/pip"));
    pip.args(["install", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]);
    pip.args(["--disable-pip-version-check", "--requirement"]);
    sh::output(pip.arg(root.join(SOURCES).join("toolchains/requirements.txt"))).map(drop)
}

/// Compiles the generator unoptimised, as it is called only twice. The Go package comes with its source.
fn wit_bindgen(root: &Path, folder: &Path) -> Result<()> {
    let mut install = host::cargo(root);
    install.args(["install", "wit-bindgen-cli", "--version", WIT_BINDGEN, "--locked", "--debug"]);
    install.args(["--no-default-features", "--features", "c,go", "--config", "profile.dev.debug=false"]);
    install.arg("--target-dir").arg(folder.join("build")).arg("--root").arg(folder);
    sh::output(&mut install)?;
    fs::remove_dir_all(folder.join("build"))?;
    inputs::write(&folder.join("go"), go_runtime()?)
}

fn go_runtime() -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("there is no CARGO_HOME")?;
    let sources = home.join("registry/src");
    let registries =
        fs::read_dir(&sources).with_context(|| format!("failed to read {}", sources.display()))?;
    let package = format!("wit-bindgen-go-{WIT_BINDGEN}/src/pkg");
    let found = registries.filter_map(Result::ok).map(|registry| registry.path().join(&package));
    let found = found.into_iter().find(|folder| folder.is_dir());
    inputs::files(&found.with_context(|| format!("no {package} in {}", sources.display()))?)
}
