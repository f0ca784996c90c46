//! `cargo xtask rules`: prints each business rule of docs/rules.md with the tests that show it. The name of
//! such a test begins with the rule's id: `w1_w7_two_hosts_…`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

const RULES: &str = "docs/rules.md";
/// Only tests of the whole product count.
const TESTS: &str = "tests/it";

pub fn run(root: &Path) -> Result<()> {
    let text = fs::read_to_string(root.join(RULES)).with_context(|| format!("failed to read {RULES}"))?;
    let rules: Vec<Rule> = text.lines().filter_map(Rule::parse).collect();
    let mut tests = BTreeMap::new();
    collect(&root.join(TESTS), &mut tests)?;
    for test in tests.keys() {
        if let Some(id) = ids(test).find(|id| !rules.iter().any(|rule| rule.id == *id)) {
            bail!("test {test} names the rule {id}, which {RULES} does not have");
        }
    }
    let mut shown = 0;
    for rule in &rules {
        println!("{:<4} {}", rule.id, rule.text);
        let own: Vec<_> = tests.iter().filter(|(test, _)| ids(test).any(|id| id == rule.id)).collect();
        shown += usize::from(!own.is_empty());
        for (test, file) in own {
            println!("       {test} ({file})");
        }
    }
    println!("{} rules, {shown} shown", rules.len());
    if shown < rules.len() {
        let missing = rules.iter().filter(|rule| !tests.keys().any(|test| ids(test).any(|id| id == rule.id)));
        let missing: Vec<&str> = missing.map(|rule| rule.id.as_str()).collect();
        bail!("no test shows {}: name one after each in {TESTS}", missing.join(", "));
    }
    Ok(())
}

struct Rule {
    id: String,
    text: String,
}

impl Rule {
    /// Parses a line like `- **W1** Runs every minute.`
    fn parse(line: &str) -> Option<Rule> {
        let (id, text) = line.strip_prefix("- **")?.split_once("** ")?;
        Some(Rule { id: id.to_owned(), text: text.to_owned() })
    }
}

/// The ids at the beginning of a test's name, in the form of the rules.
fn ids(test: &str) -> impl Iterator<Item = String> {
    test.split('_').map_while(|word| {
        let (letter, number) = word.split_at_checked(1)?;
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        ("cfrsw".contains(letter) && digits).then(|| word.to_ascii_uppercase())
    })
}

/// Collects functions whose names begin with an id, and their files.
fn collect(folder: &Path, tests: &mut BTreeMap<String, String>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("failed to read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, tests)?;
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for line in text.lines() {
            let name = line.split_once("async fn ").and_then(|(_, rest)| rest.split_once('('));
            if let Some((name, _)) = name
                && ids(name).next().is_some()
            {
                tests.insert(name.to_owned(), file.clone());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Rule, ids};

    #[test]
    fn a_test_names_its_rules_in_front() {
        let of = |test| ids(test).collect::<Vec<_>>();
        assert_eq!(of("w1_w7_two_hosts"), ["W1", "W7"]);
        assert_eq!(of("f12_dead_letters"), ["F12"]);
        for none in ["wallet_w1", "r_8", "x1_other", "w_1"] {
            assert!(of(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn a_rule_is_a_line() {
        let rule = Rule::parse("- **W1** Runs every minute, once.").unwrap();
        assert_eq!((rule.id.as_str(), rule.text.as_str()), ("W1", "Runs every minute, once."));
        assert!(Rule::parse("Rules have **ids**.").is_none());
    }
}
