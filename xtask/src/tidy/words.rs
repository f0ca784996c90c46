//! Words that must not stay in the tree.

use super::{File, Finding, Tree};

const LEFT_OVERS: [&str; 8] =
    ["todo!", "unimplemented!", "dbg!", "FIXME", "TODO", "#[ignore", "allow(dead_code", "allow(unused"];
const PRINTS: [&str; 4] = ["println!", "eprintln!", "print!", "eprint!"];
const LIBRARIES: [&str; 4] = ["host/domain/src/", "host/store/src/", "host/engine/src/", "host/sandbox/src/"];
/// Local folders, and hosts that may be unreachable from other networks or should not be named.
const PLACES: [&str; 10] = [
    "/work/",
    "/home/",
    "/root/",
    "index.crates.io",
    "static.crates.io",
    "pypi.org",
    "files.pythonhosted.org",
    "registry.npmjs.org",
    "proxy.golang.org",
    "artifactory",
];
/// The rules themselves contain these words.
const OWN_FOLDER: &str = "xtask/src/tidy/";

pub fn left_overs(tree: &Tree) -> Vec<Finding> {
    let remedy = "finish it, delete it, or write it down as an issue";
    search(tree, &LEFT_OVERS, remedy, |file, _| file.is_rust())
}

pub fn prints_in_libraries(tree: &Tree) -> Vec<Finding> {
    let remedy = "a library speaks through `tracing` and through what it returns";
    search(tree, &PRINTS, remedy, |file, line| {
        LIBRARIES.iter().any(|folder| file.path.starts_with(folder)) && line < file.first_test_line()
    })
}

/// A bounded poll without an event to wait for is allowed, with `// tidy: sleep because …` above it.
pub fn sleeps_in_tests(tree: &Tree) -> Vec<Finding> {
    let remedy =
        "wait for the event, or set the clock; a poll that must be says `// tidy: sleep because …` above it";
    search(tree, &["sleep("], remedy, |file, line| {
        file.is_rust() && line >= file.first_test_line() && !excused(file, line)
    })
}

pub fn places(tree: &Tree) -> Vec<Finding> {
    let remedy =
        "the project stands alone: take the place from an argument, the environment or a relative path";
    search(tree, &PLACES, remedy, |file, _| !file.path.ends_with(".lock"))
}

fn search(
    tree: &Tree,
    words: &[&str],
    remedy: &'static str,
    applies: impl Fn(&File, usize) -> bool,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.files.iter().filter(|file| !file.path.starts_with(OWN_FOLDER)) {
        for (number, line) in file.lines() {
            let word = words.iter().find(|word| has_word(line, word));
            if let Some(word) = word.filter(|_| applies(file, number)) {
                found.push(Finding {
                    place: format!("{}:{number}", file.path),
                    what: format!("`{word}` in `{}`", line.trim()),
                    remedy,
                });
            }
        }
    }
    found
}

/// Whether `word` occurs, and not as the end of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn excused(file: &File, line: usize) -> bool {
    let above = file.text.lines().nth(line.saturating_sub(2)).unwrap_or_default();
    let reason = above.split_once("// tidy: sleep because ").map(|(_, reason)| reason.trim());
    reason.is_some_and(|reason| !reason.is_empty())
}
