//! Compares a component's imports and exports with this host's interfaces, by name. wasmtime would find the
//! mismatch too, but reports it as a mismatch of types.

const HERE: &[(&str, &[&str], &str)] = &[
    ("tidemill:job", &OURS, "0.1.0"),
    ("wasi:logging", &["logging"], "0.1.0-draft"),
    ("wasi:config", &["store"], "0.2.0-rc.1"),
    ("wasi:keyvalue", &["store"], "0.2.0-draft"),
    ("wasi:http", &["types", "outgoing-handler"], "0.2.12"),
    ("wasi:io", &["error", "poll", "streams"], "0.2.12"),
    ("wasi:clocks", &["monotonic-clock", "wall-clock"], "0.2.12"),
    ("wasi:random", &["random", "insecure", "insecure-seed"], "0.2.12"),
    ("wasi:filesystem", &["types", "preopens"], "0.2.12"),
    ("wasi:cli", &CLI, "0.2.12"),
    ("wasi:sockets", &SOCKETS, "0.2.12"),
];

const OURS: [&str; 9] = ["types", "sql", "events", "alerts", "audit", "metrics", "items", "locks", "kv"];

const CLI: [&str; 10] = [
    "environment",
    "exit",
    "stdin",
    "stdout",
    "stderr",
    "terminal-input",
    "terminal-output",
    "terminal-stdin",
    "terminal-stdout",
    "terminal-stderr",
];

const SOCKETS: [&str; 7] =
    ["network", "instance-network", "ip-name-lookup", "tcp", "tcp-create-socket", "udp", "udp-create-socket"];

const EXPORT: &str = "tidemill:job/job";
const EXPORT_VERSION: &str = "0.1.0";

/// Additional exports are allowed, because several toolchains add their own.
pub fn check_exports<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut other = None;
    for name in names {
        let (path, version) = split(name);
        if path == EXPORT && compatible(EXPORT_VERSION, version) {
            return Ok(());
        }
        if path == EXPORT {
            other = Some(name);
        }
    }
    Err(match other {
        Some(name) => wants(name, EXPORT_VERSION),
        None => format!(
            "it does not export {EXPORT}@{}; a plugin is a component of the world tidemill:job/plugin",
            series(EXPORT_VERSION)
        ),
    })
}

pub fn check_import(name: &str) -> Result<(), String> {
    let (path, version) = split(name);
    let known = HERE.iter().find(|(package, interfaces, _)| {
        path.split_once('/').is_some_and(|(p, i)| p == *package && interfaces.contains(&i))
    });
    match known {
        Some((_, _, here)) if compatible(here, version) => Ok(()),
        Some((_, _, here)) => Err(wants(name, here)),
        None => Err(format!("import {name}: this host does not have it")),
    }
}

fn wants(name: &str, here: &str) -> String {
    format!("plugin wants {name}, this host has {}", series(here))
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('@').unwrap_or((name, ""))
}

/// Drafts have to match exactly. Other versions have to match in the major version, and also in the minor one
/// if the major is 0.
fn compatible(here: &str, wanted: &str) -> bool {
    match here.contains('-') || wanted.contains('-') {
        true => here == wanted,
        false => series(here) == series(wanted),
    }
}

/// `0.1.x` for 0.1.0, `1.x` for 1.2.3. Drafts are unchanged.
fn series(version: &str) -> String {
    let mut parts = version.split('.');
    match (parts.next(), parts.next()) {
        _ if version.contains('-') => version.to_owned(),
        (Some("0"), Some(minor)) => format!("0.{minor}.x"),
        (Some(major), Some(_)) => format!("{major}.x"),
        _ => version.to_owned(),
    }
}
