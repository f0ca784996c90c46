//! Limits for files and functions, so that each stays easy to understand.

use super::{File, Finding, Tree};

const FILE_LINES: usize = 400;
const TEST_FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;
const TRACKED_BYTES: u64 = 400 * 1024;

pub fn files(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in &tree.files {
        let lines = file.text.lines().count();
        let limit = if file.is_test() { TEST_FILE_LINES } else { FILE_LINES };
        if file.is_rust() && lines > limit {
            found.push(Finding {
                place: format!("{}:{lines}", file.path),
                what: format!("{lines} lines, {limit} at most"),
                remedy: "a file has one noun: find the second one and give it a file",
            });
        }
        if file.bytes > TRACKED_BYTES {
            found.push(Finding {
                place: file.path.clone(),
                what: format!("{} KiB in git, {} at most", file.bytes / 1024, TRACKED_BYTES / 1024),
                remedy: "keep built and large files out of git: let a command of xtask make it",
            });
        }
    }
    found
}

pub fn functions(tree: &Tree) -> Vec<Finding> {
    let long = |file: &File| {
        let too_long = function_sizes(&file.text).into_iter().filter(|(_, size)| *size > FUNCTION_LINES);
        let finding = |(line, size)| Finding {
            place: format!("{}:{line}", file.path),
            what: format!("a function of {size} lines, {FUNCTION_LINES} at most"),
            remedy: "name its parts as functions; keep the decisions in the caller",
        };
        too_long.map(finding).collect::<Vec<_>>()
    };
    tree.files.iter().filter(|file| file.is_rust()).flat_map(long).collect()
}

/// First line and number of lines of each function with a body. Relies on rustfmt: the closing brace has its
/// own line, with the indentation of the `fn`.
pub fn function_sizes(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut sizes = Vec::new();
    for (start, line) in lines.iter().enumerate().filter(|(_, line)| starts_function(line)) {
        let indent = &line[..line.len() - line.trim_start().len()];
        let closing = format!("{indent}}}");
        let signature_ends = |line: &&&str| matches!(line.chars().last(), Some('{' | '}' | ';'));
        let opening = lines[start..].iter().find(signature_ends);
        if opening.is_some_and(|line| line.ends_with('{')) {
            // `})` ends a function that a macro repeats.
            let closes = |line: &&str| *line == closing || line.starts_with(&format!("{closing})"));
            let body = lines[start..].iter().position(closes);
            sizes.push((start + 1, body.unwrap_or(lines.len() - start) + 1));
        }
    }
    sizes
}

fn starts_function(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| {
        matches!(*word, "pub" | "const" | "async" | "unsafe" | "extern" | "\"C\"") || word.starts_with("pub(")
    });
    words.next() == Some("fn")
}
