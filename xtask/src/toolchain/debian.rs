//! The target from Debian's packages, through an apt with its own folders: no root, no prompts, no change to
//! the machine. It uses the machine's own mirrors and their backports, for a wasi-libc with wasip2.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{TARGET, WasmTarget, announced, linkers};
use crate::sh;

/// A compiler, its matching sources (std is built from them), and the C library below std.
const PACKAGES: [&str; 3] = ["rustc-web", "rust-web-src", "wasi-libc"];

/// Packages that are installed together. Apt treats them as not installed, so that the folder gets all of
/// them.
const FAMILY: [&str; 4] = ["rustc-web", "rust-web-src", "wasi-libc", "libstd-rust-web"];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

pub fn is_there(folder: &Path) -> bool {
    folder.join("debian").is_dir()
}

/// The target in `folder`; unpacks it first if it is missing.
pub fn unpacked(folder: &Path) -> Result<WasmTarget> {
    let root = folder.join("debian");
    if !root.is_dir() {
        if !Path::new("/etc/debian_version").is_file() {
            bail!(
                "Debian's packages need Debian; on this system, install the target by `rustup target add {TARGET}`"
            );
        }
        announced("Debian's rustc with its sources and wasi-libc, 140 MB", || fetch(folder, &root))?;
    }
    target(&root)
}

/// rustup's cargo and linkers with the compiler and the C library in `root`.
fn target(root: &Path) -> Result<WasmTarget> {
    let rustc = root.join("usr/bin/rustc");
    let libc = root.join("usr/lib").join(TARGET);
    for needed in [rustc.clone(), libc.join("libc.a"), root.join("usr/lib/rustlib/src/rust/library")] {
        if !needed.exists() {
            bail!("{} is missing; remove {} to set it up again", needed.display(), root.display());
        }
    }
    let linkers = linkers()?;
    let env = vec![
        ("RUSTC", rustc.into_os_string()),
        // Building std is an unstable feature of cargo; this compiler is used for nothing else.
        ("RUSTC_BOOTSTRAP", "1".into()),
        ("RUSTFLAGS", format!("-L native={} -C link-self-contained=no", libc.display()).into()),
        ("LD_LIBRARY_PATH", before(&[shared_libraries(root)?], "LD_LIBRARY_PATH")?),
        ("PATH", before(&[linkers.clone(), linkers.join("gcc-ld")], "PATH")?),
    ];
    Ok(WasmTarget { origin: "Debian's packages", args: vec!["-Zbuild-std=std,panic_abort"], env })
}

/// `usr/lib/x86_64-linux-gnu`, or its equivalent on another architecture.
fn shared_libraries(root: &Path) -> Result<PathBuf> {
    let folder = root.join("usr/lib");
    let found = fs::read_dir(&folder)?.filter_map(Result::ok).map(|entry| entry.path());
    let found = found.into_iter().find(|path| path.to_string_lossy().ends_with("-linux-gnu"));
    found.with_context(|| format!("no folder of shared libraries in {}", folder.display()))
}

/// The folders, followed by the variable's current value.
fn before(folders: &[PathBuf], variable: &str) -> Result<OsString> {
    let old = std::env::var_os(variable).unwrap_or_default();
    let old = std::env::split_paths(&old).filter(|path| !path.as_os_str().is_empty());
    Ok(std::env::join_paths(folders.iter().cloned().chain(old))?)
}

/// Downloads and unpacks into a folder beside `root`, and renames it when it is complete.
fn fetch(folder: &Path, root: &Path) -> Result<()> {
    let apt = folder.join("apt");
    let new = folder.join("debian.new");
    for old in [&apt, &new] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("failed to remove {}", old.display()))?;
        }
    }
    fs::create_dir_all(apt.join("lists/partial"))?;
    fs::create_dir_all(apt.join("cache/archives/partial"))?;
    fs::create_dir_all(&new)?;
    let codename = codename()?;
    fs::write(apt.join("sources.list"), sources(&codename)?)?;
    fs::write(apt.join("status"), status()?)?;
    fs::write(apt.join("apt.conf"), config(&apt))?;

    // An unreadable third-party mirror matters only if a package is then missing.
    let update = sh::output(apt_get(&apt).arg("update"));
    download(&apt, &codename).map_err(|error| match update {
        Ok(_) => error,
        Err(update) => error.context(format!("{update:#}")),
    })?;
    for entry in fs::read_dir(apt.join("cache/archives"))? {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            sh::output(Command::new("dpkg").arg("-x").args([&package, &new]))?;
        }
    }
    target(&new).context("the packages do not hold what is needed")?;
    fs::rename(&new, root)?;
    fs::remove_dir_all(&apt)?;
    Ok(())
}

/// From the backports if the release's own wasi-libc is too old, otherwise from the release.
fn download(apt: &Path, codename: &str) -> Result<()> {
    let backport = format!("wasi-libc/{codename}-backports");
    let install = ["install", "--download-only", "--yes", "--no-install-recommends"];
    let first = sh::output(apt_get(apt).args(install).args([PACKAGES[0], PACKAGES[1], &backport]));
    if first.is_err() {
        sh::output(apt_get(apt).args(install).args(PACKAGES))?;
    }
    Ok(())
}

fn apt_get(apt: &Path) -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-c").arg(apt.join("apt.conf"));
    command
}

/// Puts all of apt's folders into ours, and uses none of the machine's hooks.
fn config(apt: &Path) -> String {
    let apt = apt.display();
    format!(
        r#"#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Dir::Etc::sourcelist "{apt}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State::lists "{apt}/lists";
Dir::State::status "{apt}/status";
Dir::Cache "{apt}/cache";
Dir::Log "{apt}";
APT::Sandbox::User "";
Debug::NoLocking "true";
Acquire::Languages "none";
"#
    )
}

/// The machine's own mirrors of its release, as apt reads them from its configuration.
fn sources(codename: &str) -> Result<String> {
    let mut ask = Command::new("apt-get");
    let uris = sh::output(ask.args(["update", "--print-uris", "-o", "Debug::NoLocking=1"]))?;
    let mut options = vec!["target=Packages".to_owned()];
    if Path::new(KEYRING).is_file() {
        options.push(format!("signed-by={KEYRING}"));
    }
    let options = options.join(" ");
    let mut lines = Vec::new();
    for uri in uris.lines().filter_map(|line| line.strip_prefix('\'')?.split('\'').next()) {
        let Some((mirror, path)) = uri.split_once("/dists/") else {
            continue;
        };
        let suite = path.split('/').next().unwrap_or_default();
        if suite == codename || suite.strip_prefix(codename).is_some_and(|rest| rest.starts_with('-')) {
            lines.push(format!("deb [{options}] {mirror} {suite} main"));
        }
        if suite == codename {
            lines.push(format!("deb [{options}] {mirror} {codename}-backports main"));
        }
    }
    if lines.is_empty() {
        bail!("apt's sources name no mirror of {codename}; see /etc/apt/sources.list");
    }
    lines.sort();
    lines.dedup();
    Ok(lines.join("\n") + "\n")
}

/// The installed packages, without those that will be unpacked.
fn status() -> Result<String> {
    const STATUS: &str = "/var/lib/dpkg/status";
    let text = fs::read_to_string(STATUS).with_context(|| format!("failed to read {STATUS}"))?;
    let others = text.split("\n\n").filter(|package| {
        let name = package.lines().find_map(|line| line.strip_prefix("Package: ")).unwrap_or_default();
        !FAMILY.iter().any(|family| name.starts_with(family))
    });
    Ok(others.collect::<Vec<_>>().join("\n\n"))
}

fn codename() -> Result<String> {
    const FILE: &str = "/etc/os-release";
    let text = fs::read_to_string(FILE).with_context(|| format!("failed to read {FILE}"))?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.with_context(|| format!("{FILE} names no VERSION_CODENAME"))?.trim_matches('"').to_owned())
}
