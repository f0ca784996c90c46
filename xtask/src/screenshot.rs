//! `cargo xtask screenshot`: the page of the running demo as docs/page.png, for README.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::steps::Steps;
use crate::{host, plugins, test, toolchain};

const PICTURE: &str = "docs/page.png";
/// Width and height of the window, in pixels.
const WINDOW: &str = "1280,1000";
/// The demo's own clock at the picture, in minutes: some wallets are complete, some are retried.
const MINUTE: &str = " 10 min";
/// The demo ends by itself, in seconds, if it never comes that far.
const SECONDS_MAX: &str = "120";

pub fn run(root: &Path) -> Result<()> {
    let mut steps = Steps::new(5);
    steps.run("wasm target", || toolchain::wasm_target(root))?;
    steps.run("building plugins", || plugins::build(root))?;
    let binary = steps.run("building the host", || host::build(root))?;
    steps.run("programs of the tests", test::programs)?;
    steps.run("taking the picture", || picture(root, &binary))
}

fn picture(root: &Path, binary: &Path) -> Result<()> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let folder = host::target(root).join("screenshot");
    let mut demo = Command::new(binary)
        .args(["demo", "--minute", "1", "--for", SECONDS_MAX, "--listen", &address])
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--plugins")
        .arg(host::target(root).join("plugins"))
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {}", binary.display()))?;
    let taken = until(&mut demo, MINUTE).and_then(|()| take(root, &folder, &address));
    let _ = demo.kill();
    let _ = demo.wait();
    std::fs::remove_dir_all(&folder)?;
    taken
}

/// Reads the demo's output until one of its lines begins like this.
fn until(demo: &mut Child, start: &str) -> Result<()> {
    let stdout = demo.stdout.take().context("the demo has no output")?;
    let found = BufReader::new(stdout).lines().map_while(Result::ok).any(|line| line.starts_with(start));
    ensure!(found, "the demo ended before its clock showed{start}");
    Ok(())
}

fn take(root: &Path, folder: &Path, address: &str) -> Result<()> {
    let status = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        .arg(format!("--window-size={WINDOW}"))
        .arg(format!("--screenshot={}", root.join(PICTURE).display()))
        .arg(format!("http://{address}/"))
        .stderr(Stdio::null())
        .status()
        .context("failed to start chromium")?;
    ensure!(status.success(), "chromium ended with {status}");
    Ok(())
}
