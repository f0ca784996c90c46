//! Runs other programs, with errors that contain the command line.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};

/// Runs a command with this terminal as its output.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("failed to start {}", line(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// Runs a command and returns its standard output, without the last line break.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("failed to start {}", line(command)))?;
    if !output.status.success() {
        bail!("{} ended with {}\n{}", line(command), output.status, last_lines(&output));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// The command line as typed, without quoting.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).display().to_string();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}

/// The last lines of a failed program's stderr, where the reason usually is.
fn last_lines(output: &Output) -> String {
    const LINES: usize = 20;
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Installs a Debian package.
pub fn install(package: &str) -> Result<()> {
    let root = is_root()?;
    for args in [&["update"][..], &["install", "-y", "--no-install-recommends", package]] {
        let mut apt = Command::new(if root { "apt-get" } else { "sudo" });
        apt.args((!root).then_some("apt-get")).args(args).env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut apt)
            .with_context(|| format!("install the Debian package `{package}` by hand, then try again"))?;
    }
    Ok(())
}

pub fn is_root() -> Result<bool> {
    Ok(output(Command::new("id").arg("-u"))?.trim() == "0")
}
