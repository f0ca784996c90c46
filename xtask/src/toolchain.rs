//! The toolchain for guests: finds or sets up the target wasm32-wasip2, without prompts.
//!
//! Rustup provides it, unless its download is refused. Debian's packages provide it too (a compiler with its
//! matching sources, and wasi-libc); they are unpacked into `target/toolchain`, without changes to the
//! machine.

mod debian;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::sh;

pub const TARGET: &str = "wasm32-wasip2";

/// Selects the route: `rustup` or `debian`. Unset: the first that works.
const ROUTE: &str = "TIDEMILL_GUEST_TOOLCHAIN";

/// The arguments and environment of cargo for guests.
pub struct WasmTarget {
    /// The source of the target, for messages.
    pub origin: &'static str,
    args: Vec<&'static str>,
    env: Vec<(&'static str, OsString)>,
}

impl WasmTarget {
    /// `cargo <subcommand>` for guests; the caller adds the other arguments.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(program("CARGO", "cargo"));
        command.args([subcommand, "--target", TARGET]).args(&self.args);
        // Flags meant for the host (sanitizers, linkers) break a build for wasm.
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    fn rustup() -> Self {
        Self { origin: "rustup", args: Vec::new(), env: Vec::new() }
    }
}

/// Sets up the target if it is missing. Later calls only check a stamp and whether the files still exist.
pub fn wasm_target(root: &Path) -> Result<WasmTarget> {
    let folder = root.join("target/toolchain");
    let route = std::env::var(ROUTE).unwrap_or_default();
    match route.as_str() {
        "" => {
            if let Some(target) = installed(&folder)? {
                return Ok(target);
            }
            // After a refused download, it is not tried again.
            if debian::is_there(&folder) {
                return debian::unpacked(&folder);
            }
            add(&folder).or_else(|refused| {
                eprintln!("setting up {TARGET}: rustup refused, so from Debian's packages");
                debian::unpacked(&folder).with_context(|| {
                    format!(
                        "rustup did not give the target {TARGET} ({refused:#}), nor did Debian's packages"
                    )
                })
            })
        }
        "rustup" => match installed(&folder)? {
            Some(target) => Ok(target),
            None => add(&folder),
        },
        "debian" => debian::unpacked(&folder),
        other => bail!("{ROUTE} is {other:?}; use `rustup` or `debian`, or leave it unset"),
    }
}

/// The target as rustup provides it. A stamp saves a call of rustc for its path.
fn installed(folder: &Path) -> Result<Option<WasmTarget>> {
    // The stamp's name contains the toolchain, because each toolchain has its own targets.
    let toolchain = std::env::var("RUSTUP_TOOLCHAIN").unwrap_or_else(|_| "default".to_owned());
    let stamp = folder.join(format!("rustup-{}", toolchain.replace('/', "-")));
    if fs::read_to_string(&stamp).is_ok_and(|libraries| Path::new(&libraries).is_dir()) {
        return Ok(Some(WasmTarget::rustup()));
    }
    let mut ask = Command::new(program("RUSTC", "rustc"));
    let libraries = sh::output(ask.args(["--print", "target-libdir", "--target", TARGET]))?;
    if !Path::new(&libraries).is_dir() {
        return Ok(None);
    }
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    fs::write(&stamp, libraries).with_context(|| format!("failed to write {}", stamp.display()))?;
    Ok(Some(WasmTarget::rustup()))
}

fn add(folder: &Path) -> Result<WasmTarget> {
    announced("rustup target add", || {
        sh::output(Command::new("rustup").args(["target", "add", TARGET])).map(drop)
    })?;
    installed(folder)?.with_context(|| {
        format!(
            "rustup added {TARGET}, but not for the `rustc` in use: that one is not of rustup's toolchain"
        )
    })
}

/// The folder of the linkers for wasm in rustup's toolchain.
fn linkers() -> Result<PathBuf> {
    let mut ask = Command::new(program("RUSTC", "rustc"));
    // <sysroot>/lib/rustlib/<host>/lib, with `bin` next to it.
    let libraries = sh::output(ask.args(["--print", "target-libdir"]))?;
    let folder = Path::new(&libraries).with_file_name("bin");
    if !folder.join("wasm-component-ld").is_file() {
        bail!(
            "no wasm-component-ld in {}; install Rust by rustup, whose toolchains bring it",
            folder.display()
        );
    }
    Ok(folder)
}

/// The program that the environment names, as in cargo's own calls.
fn program(variable: &str, default: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| OsStr::new(default).to_owned())
}

/// Prints a message before a longer operation, and its duration afterwards.
fn announced<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("setting up {TARGET}: {what} ...");
    let start = Instant::now();
    let done = work()?;
    eprintln!("setting up {TARGET}: done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(done)
}
