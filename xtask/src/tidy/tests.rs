//! Every rule is shown to fail and to pass: a rule that cannot fail checks nothing.

use super::*;

fn tree(files: &[(&str, &str)], crates: &[(&str, &[&str])]) -> Tree {
    let file = |(path, text): &(&str, &str)| File {
        path: (*path).to_owned(),
        bytes: text.len() as u64,
        text: (*text).to_owned(),
    };
    let member = |(name, dependencies): &(&str, &[&str])| Crate {
        name: (*name).to_owned(),
        dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
    };
    Tree { files: files.iter().map(file).collect(), crates: crates.iter().map(member).collect() }
}

/// The places of the findings of the rule with this name.
fn places(rule: &str, tree: &Tree) -> Vec<String> {
    let (_, check) = RULES.iter().find(|(name, _)| *name == rule).expect("a rule of that name");
    check(tree).into_iter().map(|finding| finding.place).collect()
}

fn in_files(rule: &str, files: &[(&str, &str)]) -> Vec<String> {
    places(rule, &tree(files, &[]))
}

const NONE: [&str; 0] = [];

#[test]
fn every_rule_has_a_test_here() {
    let tests = include_str!("tests.rs");
    for (name, _) in RULES {
        assert!(
            tests.matches(&format!("\"{name}\"")).count() >= 2,
            "no failing and passing case for `{name}`"
        );
    }
}

#[test]
fn imports_go_down_only() {
    let manifest = "name = \"engine\"\n\n[dependencies]\ndomain.workspace = true\nsandbox.workspace = true\n";
    let bad = tree(
        &[("host/engine/Cargo.toml", manifest)],
        &[("engine", &["domain", "sandbox", "serde"]), ("store", &["sandbox"]), ("xtask", &["demo"])],
    );
    assert_eq!(places("floors", &bad), ["host/engine/Cargo.toml:5", "crate store", "crate xtask"]);
    assert_eq!(places("floors", &tree(&[], &[("helpers", &[])])), ["crate helpers"]);
    let good =
        tree(&[], &[("engine", &["domain", "store"]), ("server", &["demo", "sandbox"]), ("it", &["demo"])]);
    assert_eq!(places("floors", &good), NONE);
}

#[test]
fn heavy_crates_have_one_owner() {
    let bad =
        tree(&[], &[("engine", &["sqlx"]), ("store", &["wasmtime-wasi"]), ("domain", &["clap", "axum"])]);
    assert_eq!(places("heavy crates", &bad), ["crate engine", "crate store", "crate domain", "crate domain"]);
    let good = tree(
        &[],
        &[("store", &["sqlx"]), ("sandbox", &["wasmtime"]), ("xtask", &["clap"]), ("it", &["clapper"])],
    );
    assert_eq!(places("heavy crates", &good), NONE);
}

#[test]
fn each_import_has_its_file() {
    let world = "world plugin {\n  import wasi:config/store@0.2.0-rc.1;\n  import sql;\n\n  export job;\n}\n";
    let folder = "host/sandbox/src/guest/capabilities";
    let config = format!("{folder}/config.rs");
    let sql = format!("{folder}/sql.rs");
    let bad = [("wit/world.wit", world), (config.as_str(), "")];
    assert_eq!(in_files("capabilities", &bad), ["wit/world.wit:3"]);
    let good = [("wit/world.wit", world), (config.as_str(), ""), (sql.as_str(), "")];
    assert_eq!(in_files("capabilities", &good), NONE);
}

#[test]
fn files_stay_small() {
    let (four_hundred, six_hundred) = ("x\n".repeat(400), "x\n".repeat(600));
    let (one_more, test_one_more) = ("x\n".repeat(401), "x\n".repeat(601));
    let image = "x".repeat(400 * 1024 + 1);
    let bad = [("a.rs", one_more.as_str()), ("a/tests.rs", &test_one_more), ("page.svg", &image)];
    assert_eq!(in_files("file size", &bad), ["a.rs:401", "a/tests.rs:601", "page.svg"]);
    let good = [("a.rs", four_hundred.as_str()), ("a/tests/b.rs", &six_hundred), ("a.md", &test_one_more)];
    assert_eq!(in_files("file size", &good), NONE);
}

#[test]
fn functions_stay_small() {
    let function = |lines: usize| {
        let body = "        work();\n".repeat(lines - 4);
        format!("impl X {{\n    pub(crate) async fn run(\n        self,\n    ) {{\n{body}    }}\n}}\n")
    };
    assert_eq!(in_files("function length", &[("a.rs", &function(71))]), ["a.rs:2"]);
    assert_eq!(in_files("function length", &[("a.rs", &function(70))]), NONE);
    let declaration =
        "trait T {\n    fn a(&self);\n    fn b(&self) {}\n    fn c() {\n        x();\n    }\n}\n";
    assert_eq!(sizes::function_sizes(declaration), [(4, 3)]);
}

#[test]
fn no_leftover_notes() {
    for line in
        ["todo!()", "dbg!(x)", "// FIXME: x", "#[ignore]", "#![allow(dead_code)]", "#[allow(unused_mut)]"]
    {
        assert_eq!(in_files("left-overs", &[("a.rs", line)]), ["a.rs:1"], "{line}");
    }
    assert_eq!(in_files("left-overs", &[("a.rs", "let my_todo = 1; // ignored"), ("a.md", "TODO")]), NONE);
}

#[test]
fn libraries_do_not_print() {
    let bad = [("host/store/src/a.rs", "fn a() {\n    eprintln!();\n}")];
    assert_eq!(in_files("prints in libraries", &bad), ["host/store/src/a.rs:2"]);
    let in_tests = "fn a() {}\n#[cfg(test)]\nmod tests {\n    println!();\n}";
    let good = [("host/store/src/a.rs", in_tests), ("host/server/src/main.rs", "println!();")];
    assert_eq!(in_files("prints in libraries", &good), NONE);
}

#[test]
fn tests_do_not_sleep() {
    let inline = "fn a() {\n    sleep(x);\n}\n#[cfg(test)]\nmod tests {\n    sleep(x);\n}";
    let bad = [
        ("tests/it/a.rs", "tokio::time::sleep(x)"),
        ("a/tests.rs", "// tidy: sleep because \nsleep(x)"),
        ("b.rs", inline),
    ];
    assert_eq!(in_files("sleeps in tests", &bad), ["tests/it/a.rs:1", "a/tests.rs:2", "b.rs:6"]);
    let excused = "// tidy: sleep because another process has no event to wait for\nsleep(x);";
    let good = [("a.rs", "sleep(x)"), ("tests/a.rs", excused), ("tests/b.rs", "select pg_sleep(1)")];
    assert_eq!(in_files("sleeps in tests", &good), NONE);
}

#[test]
fn no_machine_specific_paths() {
    let bad = [("a.md", "see /home/me/x"), ("b.toml", "\nurl = \"https://index.crates.io/\"")];
    assert_eq!(in_files("places", &bad), ["a.md:1", "b.toml:2"]);
    let good = [("Cargo.lock", "index.crates.io"), ("a.md", "docs/home/x and $HOME/x")];
    assert_eq!(in_files("places", &good), NONE);
}

#[test]
fn comments_and_documents_are_in_plain_english() {
    let code = "let x = 1; // what is told here\nlet told = \"what is\";\n";
    let text = "Whoever waits is told.\n```\nnobody\n```\nPlain.\n";
    let found = in_files(
        "prose",
        &[("a.rs", code), ("a.md", text), ("a.txt", "nobody"), ("wit/deps/a.wit", "// nobody")],
    );
    assert_eq!(found, ["a.rs:1", "a.rs:1", "a.md:1", "a.md:1"]);
    let plain = "The scan skips unreadable files. ".repeat(400);
    let once = format!("{plain}It says what is missing.\n");
    assert_eq!(in_files("prose", &[("a.md", &once)]), NONE);
}
