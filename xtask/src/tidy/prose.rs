//! Plain English in comments and docs: phrases that hide the subject of a sentence are counted.

use std::sync::LazyLock;

use regex::Regex;

use super::{File, Finding, Tree};

/// Hits per 10,000 words that the tree may have in total.
const HITS_MAX: usize = 8;
/// The rule itself contains the phrases.
const OWN_FOLDER: &str = "xtask/src/tidy/";
/// Interfaces of others.
const FOREIGN: &str = "wit/deps/";

/// Phrases that have to be read twice. They are legitimate now and then, so the rule counts them.
static PHRASES: LazyLock<Regex> = LazyLock::new(|| {
    let what = "is|it|was|were|has|had|runs?|comes?|became|becomes|waits?|holds?|goes|stands?|others?|they|he|she|nobody|\
                one|a person|takes|ends|changed|failed|fails|needs|may|can|must|cannot";
    let who = "is|does|asks|waits|looks|holds|has|reads|sets|needs|comes|cannot|may|must";
    let others = "told|tells?|looks? (?:at|for|again)|looked (?:at|for|again)|stands?|what became of|anew|nothing of|\
                  goes? by|comes? to|nobody";
    let phrases = format!(r"(?i)\b(?:what (?:{what})|(?:who|whoever) (?:{who})|{others})\b");
    #[allow(clippy::unwrap_used)]
    Regex::new(&phrases).unwrap()
});

pub fn prose(tree: &Tree) -> Vec<Finding> {
    let (mut found, mut words) = (Vec::new(), 0);
    let ours = |file: &&File| !file.path.starts_with(OWN_FOLDER) && !file.path.starts_with(FOREIGN);
    for file in tree.files.iter().filter(ours) {
        for (number, line) in prose_lines(file) {
            words += line
                .split(|c: char| !c.is_ascii_alphabetic() && c != '\'')
                .filter(|word| !word.is_empty())
                .count();
            found.extend(PHRASES.find_iter(line).map(|hit| Finding {
                place: format!("{}:{number}", file.path),
                what: format!("`{}` in `{}`", hit.as_str(), line.trim()),
                remedy: "name the subject and use an active verb (CONTRIBUTING.md); the tree may have 8 of these phrases per \
                         10,000 words",
            }));
        }
    }
    if found.len() * 10_000 <= HITS_MAX * words { Vec::new() } else { found }
}

/// Comments of source files, and lines of documents outside of code blocks.
fn prose_lines(file: &File) -> Vec<(usize, &str)> {
    let is_source = file.path.ends_with(".rs") || file.path.ends_with(".wit");
    if is_source {
        return file.lines().filter_map(|(number, line)| Some((number, line.split_once("//")?.1))).collect();
    }
    let mut in_code = false;
    let outside = |(_, line): &(usize, &str)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    };
    match file.path.ends_with(".md") {
        true => file.lines().filter(outside).collect(),
        false => Vec::new(),
    }
}
