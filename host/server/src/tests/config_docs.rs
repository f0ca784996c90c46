//! docs/configuration.md has exactly the keys that a configuration accepts, and their defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use super::config::{load, now};
use crate::config::{Config, Environment, show};

/// A key that no section has. It resembles no other, so its mistake lists all keys of the section.
const UNKNOWN: &str = "zzzzzzzz";

/// Each section of a configuration.
const SECTIONS: [&str; 20] = [
    "server",
    "server.limits",
    "host",
    "store",
    "secrets.<name>",
    "plugins",
    "plugins.canary",
    "log",
    "engine",
    "audit",
    "datasources.<name>",
    "sinks.<name>",
    "tls",
    "jobs.<name>",
    "jobs.<name>.schedule",
    "jobs.<name>.grants",
    "jobs.<name>.grants.secrets.<name>",
    "jobs.<name>.failed_alert",
    "jobs.<name>.retry",
    "jobs.<name>.limits",
];

/// Each key of the reference with the cell of its default: rows are ``| `key` | type | default | …``.
fn documented() -> BTreeMap<String, String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let text = std::fs::read_to_string(file).unwrap();
    let mut keys = BTreeMap::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (key, cells) = row.split_once("` | ").unwrap();
        let default = cells.split(" | ").nth(1).unwrap().to_owned();
        assert!(keys.insert(key.to_owned(), default).is_none(), "{key} occurs twice");
    }
    keys
}

/// Each key that the parser accepts, from its mistakes about an unknown key in each section.
fn accepted() -> BTreeSet<String> {
    let mut toml = format!("{UNKNOWN} = 1\n");
    for section in SECTIONS {
        let header = section.replace("<name>", "\"<name>\"");
        toml.push_str(&format!("[{header}]\n{UNKNOWN} = 1\n"));
        // Without these keys, some sections are not read to their end.
        toml.push_str(match section {
            "secrets.<name>" => "env = \"SECRET\"\n",
            "jobs.<name>.grants" => "http = [\"https://a.example\"]\n",
            "jobs.<name>.grants.secrets.<name>" => "to = \"https://a.example\"\n",
            _ => "",
        });
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidemill.toml");
    std::fs::write(&file, toml).unwrap();
    let environment = Environment(vec![("SECRET".to_owned(), OsString::from("s3cret"))]);
    let error = Config::load(&file, &environment, now()).unwrap_err();

    // It is read before the sections.
    let mut keys = BTreeSet::from(["environment".to_owned()]);
    let mut read = 0;
    for mistake in &error.mistakes {
        let Some(section) = mistake.key.strip_suffix(UNKNOWN) else { continue };
        let Some(known) = mistake.remedy.strip_prefix("remove it; known here: ") else {
            panic!("{section}: {}", mistake.remedy);
        };
        keys.extend(known.split(", ").map(|key| format!("{section}{key}")));
        read += 1;
    }
    assert_eq!(read, SECTIONS.len() + 1, "{error}");
    keys.retain(|key| {
        let inner = format!("{key}.");
        !SECTIONS.iter().any(|section| *section == key.as_str() || section.starts_with(&inner))
    });
    keys
}

#[test]
fn the_reference_has_each_key_and_no_other() {
    let (documented, accepted) = (documented(), accepted());
    let missing: Vec<&String> = accepted.iter().filter(|key| !documented.contains_key(*key)).collect();
    assert!(missing.is_empty(), "docs/configuration.md lacks {missing:?}");
    let unknown: Vec<&String> = documented.keys().filter(|key| !accepted.contains(*key)).collect();
    assert!(unknown.is_empty(), "docs/configuration.md has {unknown:?}, which no section accepts");
}

/// A default in backticks is the value that `config show` prints.
#[test]
fn the_reference_has_the_defaults() {
    let toml = "[plugins.canary]\n[audit]\nretention = \"90d\"\n\
        [sinks.a]\ntopics = [\"T\"]\nwebhook = \"https://a.example\"\n\
        [jobs.a]\nplugin = \"a\"\nconcurrency_per_prefix = 1\n";
    let config = load(toml.as_bytes(), &[]).unwrap();
    let (documented, shown) = (documented(), show::effective(&config));
    let (mut section, mut compared) = (String::new(), 0);
    for line in shown.lines() {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').replacen(".a", ".<name>", 1);
        }
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let key = format!("{section}.{key}");
        let Some(default) = documented.get(&key).and_then(|cell| cell.strip_prefix('`')) else { continue };
        assert_eq!(default.trim_end_matches('`'), value, "{key}");
        compared += 1;
    }
    assert!(compared >= 80, "only {compared} defaults were compared");
}

/// The example may show a key as a comment, in an inline table, or as a section.
#[test]
fn the_example_has_each_key() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tidemill.example.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let last =
        |text: &'_ str| text.rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
    let mut shown: BTreeSet<String> =
        text.match_indices(" = ").filter_map(|(at, _)| last(&text[..at])).collect();
    shown.extend(text.lines().filter_map(|line| last(line.strip_prefix('[')?.strip_suffix(']')?)));
    let mut missing = accepted();
    missing.retain(|key| !shown.contains(key.rsplit('.').next().unwrap()));
    assert!(missing.is_empty(), "docs/tidemill.example.toml lacks {missing:?}");
}
