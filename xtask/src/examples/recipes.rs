//! The commands that build each example. `plugins/examples/README.md` shows them to authors: change both.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::tools::{Kind, Tools};
use crate::sh;

/// This file, as a dependency of every example.
pub const SOURCE: &str = include_str!("recipes.rs");
/// The result of a recipe, in the folder of its example.
pub const COMPONENT: &str = "component.wasm";

const WORLD: &str = "example";
const WORLD_WITHOUT_HTTP: &str = "example-without-http";

pub struct Recipe {
    pub language: &'static str,
    pub tools: &'static [Kind],
    /// Called with a folder that holds the sources, and the contract in `wit`.
    pub build: fn(&Tools, &Path) -> Result<()>,
}

/// Slowest first, so that the last one to build is short.
pub const ALL: [Recipe; 6] = [
    Recipe { language: "typescript", tools: &[Kind::Npm], build: typescript },
    Recipe { language: "python", tools: &[Kind::Python], build: python },
    Recipe { language: "c", tools: &[Kind::Python, Kind::Npm, Kind::WitBindgen], build: c },
    Recipe { language: "javascript", tools: &[Kind::Npm], build: javascript },
    Recipe { language: "go", tools: &[Kind::Python, Kind::Npm, Kind::WitBindgen], build: go },
    Recipe { language: "quickjs", tools: &[Kind::Npm], build: quickjs },
];

fn python(tools: &Tools, folder: &Path) -> Result<()> {
    let mut componentize = tools.python("componentize-py", folder);
    componentize.args(["-d", "wit", "-w", WORLD, "componentize", "job", "-o", COMPONENT]);
    sh::output(&mut componentize).map(drop)
}

/// `fetch` would add `wasi:http`.
fn javascript(tools: &Tools, folder: &Path) -> Result<()> {
    let mut jco = tools.npm("jco", folder);
    jco.args(["componentize", "job.js", "--bundle", "-w", "wit", "-n", WORLD_WITHOUT_HTTP, "-o", COMPONENT]);
    sh::output(&mut jco).map(drop)
}

/// The types come from the contract, so the compiler finds mismatches.
fn typescript(tools: &Tools, folder: &Path) -> Result<()> {
    sh::output(tools.npm("jco", folder).args(["guest-types", "wit", "-n", WORLD, "-o", "types"]))?;
    check_types(tools, folder)?;
    let mut jco = tools.npm("jco", folder);
    jco.args(["componentize", "job.ts", "-w", "wit", "-n", WORLD]);
    jco.args(["-d", "http", "-d", "fetch-event", "-o", COMPONENT]);
    sh::output(&mut jco).map(drop)
}

/// The compiler writes its errors to standard output.
fn check_types(tools: &Tools, folder: &Path) -> Result<()> {
    let found = tools.npm("tsc", folder).args(["-p", "."]).output().context("failed to start tsc")?;
    anyhow::ensure!(found.status.success(), "tsc found:\n{}", String::from_utf8_lossy(&found.stdout));
    Ok(())
}

fn quickjs(tools: &Tools, folder: &Path) -> Result<()> {
    let mut componentize = tools.npm("componentize-qjs", folder);
    componentize.args(["--wit", "wit", "--world", WORLD_WITHOUT_HTTP, "--js", "job.js"]);
    componentize.args(["--sync", "--opt-size", "--minify", "-o", COMPONENT]);
    sh::output(&mut componentize).map(drop)
}

fn c(tools: &Tools, folder: &Path) -> Result<()> {
    sh::output(tools.wit_bindgen(folder).args(["c", "wit", "--world", WORLD, "--out-dir", "gen"]))?;
    let mut cc = tools.python("python", folder);
    cc.args(["-m", "ziglang", "cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-Oz"]);
    cc.args(["-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]);
    // Without these, zig reserves a stack of 16 MiB, and leaves assertions out of optimised code.
    cc.args(["-Wl,-z,stack-size=131072", "-UNDEBUG"]);
    cc.args(["-Igen", "job.c", "mistakes.c", "gen/example.c", "gen/example_component_type.o"]);
    sh::output(cc.args(["-o", "core.wasm"]))?;
    component(tools, folder, "core.wasm")
}

fn go(tools: &Tools, folder: &Path) -> Result<()> {
    let arguments = ["go", "wit", "--world", WORLD, "--out-dir", ".", "--generate-stubs"];
    sh::output(tools.wit_bindgen(folder).args(arguments))?;
    // The generator writes stubs for the exported functions; the example replaces them.
    let package = folder.join("export_tidemill_job_job");
    fs::rename(folder.join("job.go"), package.join("wit_bindings.go"))?;
    fs::rename(folder.join("mistakes.go"), package.join("mistakes.go"))?;
    let module = folder.join("go.mod");
    let mut text = fs::read_to_string(&module).context("failed to read go.mod")?;
    let runtime = tools.go_runtime();
    text.push_str(&format!("replace go.bytecodealliance.org/pkg => {}\n", runtime.display()));
    fs::write(&module, text).context("failed to write go.mod")?;

    let mut build = tools.python("go", folder);
    build.envs([("GOOS", "wasip1"), ("GOARCH", "wasm"), ("GOTOOLCHAIN", "local")]);
    build.envs([("GOPROXY", "off"), ("GOSUMDB", "off"), ("GOFLAGS", "-mod=mod")]);
    build.args(["build", "-trimpath", "-buildmode=c-shared", "-ldflags=-checklinkname=0 -s -w"]);
    build.args(["-o", "core.wasm", "."]);
    sh::output(&mut build)?;
    let mut embed = tools.python("wasm-tools", folder);
    embed.args(["component", "embed", "wit", "--world", WORLD, "core.wasm", "-o", "embedded.wasm"]);
    sh::output(&mut embed)?;
    component(tools, folder, "embedded.wasm")
}

/// Makes a component from a core module that uses WASI preview 1.
fn component(tools: &Tools, folder: &Path, module: &str) -> Result<()> {
    let adapter = format!("wasi_snapshot_preview1={}", tools.adapter().display());
    let mut new = tools.python("wasm-tools", folder);
    new.args(["component", "new", module, "--adapt", &adapter, "-o", COMPONENT]);
    sh::output(&mut new).map(drop)
}
