//! Arguments that are understood, and those that are not.

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};

fn parses(line: &str) -> Result<Command, String> {
    let words = std::iter::once("tidemill").chain(line.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.command).map_err(|e| e.to_string())
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_parses() {
    let lines = [
        "serve",
        "serve --config /etc/tidemill.toml",
        "demo --plugins p --data d --listen 127.0.0.1:0 --minute 0.5 --for 30",
        "config check",
        "config show --config x.toml",
        "jobs --output json",
        "jobs trigger hello --server http://127.0.0.1:1",
        "runs --job hello --limit 3",
        "items --job hello --state waiting",
        "items show hello k",
        "items retry hello k --notes why",
        "items resolve hello k",
        "items abandon hello k --output json",
        "plugins",
        "hosts",
        "audit --limit 500",
        "schedule preview @daily --tz Europe/Berlin --count 3",
    ];
    for line in lines {
        parses(line).unwrap_or_else(|e| panic!("{line}: {e}"));
    }
}

#[test]
fn nonsense_is_refused() {
    let lines = [
        "",
        "serv",
        "jobs trigger",
        "items show hello",
        "items --output yaml",
        "schedule preview @daily --count 0",
        "demo --minute 0",
        "demo --minute nan",
        "demo --listen here",
    ];
    for line in lines {
        assert!(parses(line).is_err(), "{line} should be refused");
    }
}
