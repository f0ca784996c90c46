//! Valid and invalid arguments.

use std::io::{Read, Write};
use std::net::TcpListener;

use clap::{CommandFactory, Parser};
use jiff::{SignedDuration, Timestamp};

use crate::cli::serve::trial_clock;
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
        "serve --clock-speed 120 --clock-from 2026-11-21T10:00:00Z",
        "demo --plugins p --data d --listen 127.0.0.1:0 --minute 0.5 --for 30",
        "migrate",
        "migrate --dry-run --config /etc/tidemill.toml",
        "config check",
        "config show --config x.toml",
        "jobs --output json",
        "jobs trigger hello --server http://127.0.0.1:1",
        "runs --job hello --limit 3",
        "items --job hello --state scheduled",
        "items show hello k",
        "items add hello k --payload {}",
        "items add hello --file items.jsonl",
        "items add hello --file - --output json",
        "items retry hello k --notes why",
        "items resolve hello k",
        "items abandon hello k --output json",
        "plugins",
        "plugins replay new.wasm --job hello",
        "plugins replay new.wasm --job hello --last 200 --output json",
        "plugins upload hello.wasm --name hello",
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
        "serve --clock-speed 120",
        "serve --clock-from 2026-11-21T10:00:00Z",
        "serve --clock-speed 0 --clock-from 2026-11-21T10:00:00Z",
        "serve --clock-speed 120 --clock-from yesterday",
        "jobs trigger",
        "items show hello",
        "items --output yaml",
        "plugins replay new.wasm",
        "plugins replay new.wasm --job hello --last 0",
        "plugins replay new.wasm --job hello --last 201",
        "plugins upload",
        "schedule preview @daily --count 0",
        "demo --minute 0",
        "demo --minute nan",
        "demo --listen here",
    ];
    for line in lines {
        assert!(parses(line).is_err(), "{line} should be refused");
    }
}

#[test]
fn hosts_of_a_trial_show_the_same_time_whenever_they_start() {
    let from: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
    for passed in [0, 60, 3_600] {
        let now = from + SignedDuration::from_secs(passed);
        let ahead = trial_clock(120.0, from, now).now().duration_since(now).as_secs();
        let (least, most) = (passed * 119, passed * 119 + 120);
        assert!((least..=most).contains(&ahead), "{ahead} s ahead after {passed} s");
    }
}

/// The first response is lost on its way; the second one ends the command.
#[test]
fn request_whose_answer_is_lost_is_sent_again_with_its_key() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let problem = r#"{"type":"t","title":"t","status":404,"code":"c","detail":"d"}"#;
        let answers = [
            String::new(),
            format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{problem}", problem.len()),
        ];
        answers.map(|answer| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            let mut bytes = [0; 4096];
            while !request.ends_with('}') {
                let read = stream.read(&mut bytes).unwrap();
                request.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
            }
            stream.write_all(answer.as_bytes()).unwrap();
            let key = request.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
            (key.unwrap().to_owned(), request.lines().last().unwrap().to_owned())
        })
    });
    let line = format!("tidemill items add hello k --server http://{address}");
    crate::cli::run(Cli::try_parse_from(line.split(' ')).unwrap());
    let [first, second] = server.join().unwrap();
    assert_eq!(first, second);
    assert_eq!((first.0.len(), first.1.as_str()), (38, r#"{"key":"k","payload":""}"#));
}
