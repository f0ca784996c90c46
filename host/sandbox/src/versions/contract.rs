//! Compares a component's imports and exports with this host's interfaces, by name. wasmtime would find the
//! mismatch too, but reports it as a mismatch of types.

use domain::job::{Capability, Grants};

type IsGranted = fn(&Grants) -> bool;

/// Interfaces that a version may import only if the job has the grant, and the reason of the refusal. Each
/// interface of `tidemill:job` with functions is in this list; the host does not have any other.
pub const GRANT_OF_INTERFACE: [(&str, IsGranted, &str); 10] = [
    ("tidemill:job/sql", |grants| !grants.datasources.is_empty(), "no datasource is granted"),
    ("tidemill:job/items", |grants| !grants.items.is_empty(), "adding items is granted to no job"),
    ("tidemill:job/locks", |grants| !grants.locks.is_empty(), "no lock is granted (locks)"),
    ("tidemill:job/events", |grants| !grants.topics.is_empty(), "no topic is granted"),
    (
        "wasi:http/outgoing-handler",
        |grants| !grants.http.is_empty(),
        "requests are granted to no address (http)",
    ),
    ("wasi:keyvalue/store", |grants| grants.allow(Capability::KeyValue), "keyvalue is not granted"),
    ("tidemill:job/kv", |grants| grants.allow(Capability::KeyValue), "keyvalue is not granted"),
    ("tidemill:job/alerts", |grants| grants.allow(Capability::Alerts), "alerts is not granted"),
    ("tidemill:job/audit", |grants| grants.allow(Capability::Audit), "audit is not granted"),
    ("tidemill:job/metrics", |grants| grants.allow(Capability::Metrics), "metrics is not granted"),
];

/// Interfaces of which `describe` names the missing grant. That is the better reason.
pub const NAMED_BY_DESCRIBE: [&str; 2] = ["tidemill:job/sql", "tidemill:job/events"];

/// An interface without functions.
const TYPES: &str = "tidemill:job/types";
const OUR_PACKAGE: &str = "tidemill:job/";
const OUR_VERSION: &str = "0.1.0";

const HERE: &[(&str, &[&str], &str)] = &[
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

/// Additional exports are allowed, because several toolchains add their own.
pub fn check_exports<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut other = None;
    for name in names {
        let (path, version) = split(name);
        if path == EXPORT && compatible(OUR_VERSION, version) {
            return Ok(());
        }
        if path == EXPORT {
            other = Some(name);
        }
    }
    Err(match other {
        Some(name) => wants(name, OUR_VERSION),
        None => format!(
            "it does not export {EXPORT}@{}; a plugin is a component of the world tidemill:job/plugin",
            series(OUR_VERSION)
        ),
    })
}

pub fn check_import(name: &str) -> Result<(), String> {
    match version_here(interface(name)) {
        Some(here) if compatible(here, split(name).1) => Ok(()),
        Some(here) => Err(wants(name, here)),
        None => Err(format!("import {name}: this host does not have it")),
    }
}

/// The interface of an import: its name without the version.
pub fn interface(import: &str) -> &str {
    split(import).0
}

fn version_here(interface: &str) -> Option<&'static str> {
    if interface.starts_with(OUR_PACKAGE) {
        let known = interface == TYPES || GRANT_OF_INTERFACE.iter().any(|(ours, ..)| *ours == interface);
        return known.then_some(OUR_VERSION);
    }
    let (package, name) = interface.split_once('/')?;
    let known = HERE.iter().find(|(known, names, _)| *known == package && names.contains(&name));
    known.map(|(_, _, version)| *version)
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
