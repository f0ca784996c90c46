//! Names, logs and values, without a guest.

use std::time::Duration;

use domain::failure::Failure;
use domain::id::RunId;
use domain::limits::Limits;
use domain::outcome::{Outcome, PUT_OFF_MAX};
use domain::runner::PageRequest;
use domain::text::escape;
use jiff::Timestamp;
use wasmtime::component::ResourceTableError;

use crate::guest::bindings::types;
use crate::guest::convert;
use crate::guest::log::{Level, Log, LogSource, Stream};
use crate::guest::state::GuestState;
use crate::guest::trap;
use crate::versions::contract::{check_exports, check_import};

#[test]
fn imports_are_known_by_name_and_version() {
    for fits in [
        "tidemill:job/sql@0.1.0",
        "tidemill:job/events@0.1.7",
        "wasi:keyvalue/store@0.2.0-draft",
        "wasi:cli/stderr@0.2.6",
        "wasi:io/poll@0.2.12",
        "wasi:http/outgoing-handler@0.2.6",
    ] {
        assert_eq!(check_import(fits), Ok(()), "{fits}");
    }
    for (refused, why) in [
        ("tidemill:job/sql@0.2.0", "plugin wants tidemill:job/sql@0.2.0, this host has 0.1.x"),
        (
            "wasi:keyvalue/store@0.2.0-draft2",
            "plugin wants wasi:keyvalue/store@0.2.0-draft2, this host has 0.2.0-draft",
        ),
        (
            "wasi:http/incoming-handler@0.2.6",
            "import wasi:http/incoming-handler@0.2.6: this host does not have it",
        ),
        ("wasi:cli/stdin@0.3.0", "plugin wants wasi:cli/stdin@0.3.0, this host has 0.2.x"),
        ("print", "import print: this host does not have it"),
    ] {
        assert_eq!(check_import(refused), Err(why.to_owned()));
    }
}

#[test]
fn the_export_is_known_by_name_and_version() {
    let check = |names: &[&'static str]| check_exports(names.iter().copied());
    assert_eq!(check(&["init", "tidemill:job/job@0.1.3"]), Ok(()));
    let newer = check(&["tidemill:job/job@0.2.0"]).unwrap_err();
    assert_eq!(newer, "plugin wants tidemill:job/job@0.2.0, this host has 0.1.x");
    assert!(check(&[]).unwrap_err().starts_with("it does not export tidemill:job/job@0.1.x"));
}

#[test]
fn a_log_line_stays_one_line() {
    let mut log = Log::new(LogSource::default(), &Limits::DEFAULT);
    log.push(Level::Warn, "db", "first\nERROR forged \x1b[2J\u{202e}txt.exe\u{0}");
    log.push_output(Stream::Stdout, "plain");
    let expected = "WARN db: first\\nERROR forged \\u{1b}[2J\\u{202e}txt.exe\\u{0}\nINFO stdout: plain\n";
    assert_eq!(log.take(), expected);
}

#[test]
fn a_log_has_its_limits() {
    let limits = Limits { log_lines: 3, log_line_bytes: 32, log_bytes: 80, ..Limits::DEFAULT };
    let mut log = Log::new(LogSource::default(), &limits);
    for _ in 0..10 {
        log.push(Level::Info, "", &"ü".repeat(1_000));
    }
    let text = log.take();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.ends_with("(8 more lines dropped)\n"), "{text}");
    assert!(text.lines().next().unwrap().len() <= "INFO ".len() + 32);
}

#[test]
fn texts_are_cut_after_they_are_escaped() {
    let text = convert::shown(&"\x1b".repeat(4_096), 4_096);
    assert!(text.len() <= 4_096 && text.starts_with("\\u{1b}\\u{1b}"));
    assert_eq!(escape("ünïcode 日本 stays"), "ünïcode 日本 stays");
}

#[test]
fn impossible_times_do_no_harm() {
    let limits = Limits::DEFAULT;
    let snoozed = convert::outcome(types::Outcome::Snoozed(u64::MAX), &limits);
    assert_eq!(snoozed, Ok(Outcome::Snoozed { until: Timestamp::MAX }));
    let error = types::Error { code: String::new(), message: String::new() };
    let throttle = types::Throttle { retry_after: u64::MAX, error };
    match convert::failure(types::Failure::Throttled(throttle), &limits) {
        Failure::Throttled { retry_after, error } => {
            assert_eq!((retry_after, error.code.as_str()), (PUT_OFF_MAX, "unspecified"));
        }
        other => panic!("{other:?}"),
    }
    let unknown = convert::outcome(types::Outcome::Other("later".to_owned()), &limits);
    assert_eq!(unknown.unwrap_err().error().unwrap().code, "unknown-outcome");
}

#[test]
fn bad_keys_and_cursors_are_refused() {
    let page = |key: &str, next: Option<String>| {
        let items = vec![types::Found { key: key.to_owned(), payload: String::new() }];
        let page = convert::page(types::Page { items, next }, 10, &Limits::DEFAULT);
        page.map_err(|failure| failure.error().unwrap().code.clone())
    };
    assert!(page("wallet/1 ü", Some("x".repeat(4_096))).is_ok());
    assert!(page(&"k".repeat(512), None).is_ok());
    for bad in ["", "a\nb", "a\0", "\x1b[31m", "a\u{202e}", "a\u{200b}", "\u{85}", &"k".repeat(513)] {
        assert_eq!(page(bad, None).unwrap_err(), "bad-key", "{bad:?}");
    }
    assert_eq!(page("k", Some("x".repeat(4_097))).unwrap_err(), "cursor-too-large");
}

#[test]
fn errors_of_the_engine_have_codes() {
    let state = GuestState::new(None, &Limits::DEFAULT, &super::outside(), LogSource::default());
    let cases: [(wasmtime::Error, &str, &str); 4] = [
        (wasmtime::Trap::StackOverflow.into(), "trap", "call stack exhausted"),
        (wasmtime_wasi::I32Exit(3).into(), "exited", "exit code 3"),
        (ResourceTableError::Full.into(), "handle-limit", "1024 handles"),
        (trap::CpuLimit(Duration::from_secs(1)).into(), "cpu-limit", "more than 1s"),
    ];
    for (error, code, words) in cases {
        let failure = trap::failure(&error, &state);
        let error = failure.error().unwrap();
        assert_eq!(error.code, code);
        assert!(error.message.contains(words), "{}", error.message);
    }
}

#[test]
fn a_trap_is_explained_by_what_the_guest_wrote_last() {
    let explained = |error: wasmtime::Error, lines: &[&str]| {
        let state = GuestState::new(None, &Limits::DEFAULT, &super::outside(), LogSource::default());
        lines.iter().for_each(|line| state.log().push_output(Stream::Stderr, line));
        let failure = trap::failure(&error, &state);
        let error = failure.error().unwrap();
        (error.code.clone(), error.message.clone())
    };
    let trap = || wasmtime::Error::from(wasmtime::Trap::UnreachableCodeReached).context("at 0x6d57");
    let (code, message) = explained(trap(), &["reading stock", "no such \u{1b}[31mshelf"]);
    let cause = "wasm trap: wasm `unreachable` instruction executed";
    assert_eq!(code, "trap");
    assert_eq!(message, format!("{cause}; stderr: reading stock | no such \\u{{1b}}[31mshelf; at 0x6d57"));
    assert_eq!(explained(trap(), &[]).1, format!("{cause}; at 0x6d57"));
    let (code, message) = explained(trap(), &["Assertion failed: n > 0 (job.c: process: 12)", "bye"]);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("guest-panic", "Assertion failed: n > 0 (job.c: process: 12)")
    );
    let exited = explained(wasmtime_wasi::I32Exit(2).into(), &["panic: boom", "goroutine 1 [running]:"]);
    assert_eq!(exited.1, "panic: boom (the guest ended itself with exit code 2)");
    let long = explained(trap(), &["x".repeat(100_000).as_str(); 20]);
    assert!(long.1.len() <= Limits::DEFAULT.text_bytes && long.1.starts_with(cause));
}

/// A run's parameters reach `discover`, unless they are invalid JSON.
#[test]
fn page_request_has_the_data_of_its_run() {
    let at = Timestamp::from_second(1_000).unwrap();
    let request = |params: Option<&str>| PageRequest {
        run_id: RunId::new(at),
        trigger: "ada".to_owned(),
        scheduled_at: Some(at),
        params: params.map(str::to_owned),
        cursor: None,
        limit: 7,
        now: at,
    };
    let context = |params| -> serde_json::Value {
        serde_json::from_str(&convert::page_request(&super::job("noop"), &request(params)).context).unwrap()
    };
    let reported = context(Some("{\"only\": [1, 2]}"));
    assert_eq!((&reported["params"]["only"][1], &reported["trigger"]), (&2.into(), &"ada".into()));
    assert_eq!(reported["scheduled_at_ms"], 1_000_000);
    assert!(context(Some("{")).get("params").unwrap().is_null());
    let exact = "{\"b\": 123456789012345678901234567890,\t\"a\":1e400, \"b\":1.0}";
    let request = convert::page_request(&super::job("noop"), &request(Some(exact)));
    assert!(request.context.contains(&format!("\"params\":{exact},")), "{}", request.context);
    assert!(context(None)["params"].is_null());
}
