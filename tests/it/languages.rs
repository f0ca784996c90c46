//! Plugins in languages other than Rust, on a real host: each ends its items in every way, and its failures
//! are shown with the language's own message. One database is enough: only guest and sandbox differ.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use test_support::needs;

use crate::support::site::{Site, eventually};
use crate::support::{http, plugins};

/// The compiler runs at low priority, and needs half a minute for some languages.
const COMPILED: Duration = Duration::from_secs(600);

/// A mistake of an example, the code of its failure, and texts that its message must contain.
type Mistake = (&'static str, &'static str, &'static [&'static str]);

struct Language {
    name: &'static str,
    /// Whether it calls the service.
    calls: bool,
    mistakes: &'static [Mistake],
}

macro_rules! languages {
    ($($name:ident: $calls:literal, $mistakes:expr;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            needs!(Product, Examples);
            let name = stringify!($name);
            check(&Language { name, calls: $calls, mistakes: &$mistakes }).await;
        })+
    };
}

languages! {
    c: true, [
        ("abort", "trap", &["unreachable", "stderr: no bolts left"]),
        ("no-line-end", "trap", &["stderr: no bolts left"]),
        ("assertion", "guest-panic", &["Assertion failed: strlen(name) < 4 (mistakes.c: make_mistake: "]),
        ("perror", "trap", &["stderr: cannot read the stock: No such file or directory"]),
        ("exit", "exited", &["out of paper (the guest ended itself"]),
        ("bounds", "trap", &["out of bounds memory access"]),
        ("recursion", "trap", &["wasm trap: "]),
    ];
    go: true, [
        ("nil-map", "guest-panic", &["panic: assignment to entry in nil map"]),
        ("nil-pointer", "guest-panic", &["panic: runtime error: invalid memory address or nil pointer dereference"]),
        ("index", "guest-panic", &["panic: runtime error: index out of range [5] with length 0"]),
        ("divide", "guest-panic", &["panic: runtime error: integer divide by zero"]),
        ("text", "guest-panic", &["panic: no bolts left"]),
        ("error", "guest-panic", &["panic: no bolts left"]),
        ("own-error", "guest-panic", &["panic: 0 bolts left"]),
        ("two-lines", "guest-panic", &["panic: first line second line"]),
        ("wrapped", "guest-panic", &["panic: cannot order: 0 bolts left"]),
        ("again", "guest-panic", &["panic: no bolts left", "panic: while recovering from: no bolts left"]),
        ("log", "exited", &["no bolts left (the guest ended itself"]),
        ("exit", "exited", &["out of paper (the guest ended itself"]),
        ("deadlock", "guest-panic", &["fatal error: all goroutines are asleep - deadlock!"]),
        ("recursion", "trap", &["wasm trap: call stack exhausted"]),
    ];
    javascript: true, [
        ("type-error", "guest-panic", &["TypeError: can't access property \"nothing\", (void 0) is undefined"]),
        ("reference-error", "guest-panic", &["ReferenceError: bolts is not defined"]),
        ("own-error", "guest-panic", &["StockError: no bolts left"]),
        ("two-lines", "guest-panic", &["Error: first line second line"]),
        ("cause", "guest-panic", &["Error: cannot order"]),
        ("rejected", "guest-panic", &["RangeError: too far"]),
        ("text", "guest-panic", &["no bolts left"]),
        ("nothing", "guest-panic", &["is undefined"]),
        ("object", "guest-panic", &["received `[object Object]`"]),
        ("json", "guest-panic", &["SyntaxError: JSON.parse: unexpected end of data"]),
        ("recursion", "guest-panic", &["InternalError: too much recursion"]),
        ("unsettled", "trap", &["event loop error"]),
        ("wrong-type", "guest-panic", &["received `42`", "`Outcome`"]),
    ];
    typescript: true, [
        ("type-error", "guest-panic", &["TypeError: "]),
        ("own-error", "guest-panic", &["StockError: no bolts left"]),
        ("wrong-type", "guest-panic", &["received `42`", "`Outcome`"]),
    ];
    quickjs: false, [
        ("type-error", "guest-panic", &["cannot read property 'nothing' of undefined (at makeMistake (/mistakes.js:"]),
        ("reference-error", "guest-panic", &["bolts is not defined (at makeMistake (/mistakes.js:"]),
        ("own-error", "guest-panic", &["no bolts left (at StockError (/mistakes.js:"]),
        ("two-lines", "guest-panic", &["first line second line (at makeMistake"]),
        ("cause", "guest-panic", &["cannot order (at makeMistake"]),
        // For a thrown value that is not an Error, QuickJS reports only the type.
        ("text", "guest-panic", &["from: \"string\", to: \"variant\""]),
        ("nothing", "guest-panic", &["from: \"undefined\", to: \"variant\""]),
        ("object", "guest-panic", &["from: \"undefined\", to: \"string\""]),
        ("json", "guest-panic", &["Unexpected end of JSON input (at <input>:"]),
        ("recursion", "trap", &["wasm trap: call stack exhausted"]),
        ("wrong-type", "guest-panic", &["from: \"int\", to: \"variant\""]),
    ];
    python: true, [
        ("key-error", "guest-panic", &["KeyError: 'nothing here' (File \"", "mistakes.py\", line "]),
        ("own-error", "guest-panic", &["mistakes.StockError: no bolts left (File \""]),
        ("two-lines", "guest-panic", &["ValueError: first line second line (File \""]),
        ("chained", "guest-panic", &["mistakes.StockError: no bolts left (File \""]),
        ("assertion", "guest-panic", &["AssertionError: stock is negative (File \""]),
        ("group", "guest-panic", &["ExceptionGroup: two problems (2 sub-exceptions) (File \""]),
        ("recursion", "guest-panic", &["RecursionError: maximum recursion depth exceeded"]),
        ("exit", "exited", &["out of paper (the guest ended itself"]),
        ("exit-code", "exited", &["the guest ended itself with exit code"]),
        ("wrong-type", "guest-panic", &["KeyError(<class 'int'>)"]),
        ("bad-name", "guest-panic", &["'int' object is not an instance of 'str'"]),
    ];
    rust: true, [
        ("panic", "guest-panic", &["no bolts left (thread ", "src/mistakes.rs:"]),
        ("two-lines", "guest-panic", &["first line second line (thread "]),
        ("unwrap", "guest-panic", &["called `Result::unwrap()` on an `Err` value: ParseIntError { kind: InvalidDigit }"]),
        ("index", "guest-panic", &["no entry found for key (thread ", "src/mistakes.rs:"]),
        ("assertion", "guest-panic", &["stock is wrong left: 9 right: 4"]),
        ("borrow", "guest-panic", &["already borrowed", "src/mistakes.rs:"]),
        ("exit", "exited", &["out of paper (the guest ended itself"]),
        ("abort", "trap", &["stderr: no bolts left"]),
    ];
}

async fn check(language: &Language) {
    let service = service();
    let site = Site::new(&config(language, service));
    plugins::place(&site.path("plugins"), &plugins::example(language.name), "example");
    let host = site.serve().await;
    let before = Timestamp::now();
    site.until_active_within(COMPILED, "example").await;
    for job in ["example", "broken"] {
        assert!(site.ask(&["jobs", "trigger", job]).await.status.success());
    }
    let mistakes = language.mistakes.len() as u64;
    site.until_items("resolved", 3).await;
    site.until_items("manual_required", 1 + mistakes).await;

    ends_are_the_contracts(&site, language, before).await;
    for mistake in language.mistakes {
        is_shown(&item(&site, mistake.0).await, mistake);
    }
    let run = eventually("the run of `broken` failed", async || failed_run(&site).await).await;
    has_all(&run["error"], &language.mistakes[0]);
    host.terminate().await;
}

/// `broken` makes the first mistake in its discovery. An attempt can take seconds when tests run in parallel.
fn config(language: &Language, service: SocketAddr) -> String {
    let keys: Vec<&str> = language.mistakes.iter().map(|(name, ..)| *name).collect();
    let (also, first) = (keys.join(","), keys[0]);
    let service_key =
        if language.calls { format!("service = \"http://{service}/\", ") } else { String::new() };
    let grants = format!("{{ events = [\"ExampleDone\"], keyvalue = true, http = [\"http://{service}\"] }}");
    format!(
        r#"
        plugins.compile_time = "10m"
        plugins.describe_time = "30s"
        [jobs.example]
        plugin = "example"
        config = {{ {service_key}fail_times = 1, also = "clock,{also}" }}
        retry = {{ base = "1s", cap = "1s", max_attempts = 2 }}
        limits = {{ cpu_time = "60s" }}
        grants = {grants}
        [jobs.broken]
        plugin = "example"
        config = {{ {service_key}discover_mistake = "{first}" }}
        limits = {{ cpu_time = "60s" }}
        grants = {grants}
        "#
    )
}

async fn ends_are_the_contracts(site: &Site, language: &Language, before: Timestamp) {
    let good = item(site, "good").await;
    let expected = if language.calls { "the service answered 200 hello" } else { "counted 1" };
    assert_eq!(good["item"]["note"], expected, "{good}");
    // The Rust SDK names the crate, `example_rust`.
    let log = log_of(&good);
    assert!(log.starts_with("INFO example") && log.contains(": good, attempt 1"), "{good}");
    let sent = http::get(site.address, "/api/v1/outbox").await.json();
    assert_eq!(sent["events"][0]["key"], "good", "{sent}");
    let payload: Value = serde_json::from_str(sent["events"][0]["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["count"], 1, "{sent}");

    let flaky = item(site, "flaky").await;
    assert_eq!(flaky["item"]["note"], "at attempt 2", "{flaky}");
    let first = &flaky["attempts"][1]["error"];
    assert_eq!((&first["code"], &first["message"]), (&"too-early".into(), &"attempt 1 is too early".into()));

    let bad = item(site, "bad").await;
    let error = &bad["item"]["error"];
    assert_eq!((&error["code"], &error["message"]), (&"never".into(), &"this item never works".into()));
    assert_eq!(bad["item"]["attempts"], 1, "{bad}");

    let clock = item(site, "clock").await;
    let note = clock["item"]["note"].as_str().unwrap();
    let millis: i64 = note.strip_prefix("at ").unwrap().parse().unwrap();
    let lasted = before.as_millisecond()..=Timestamp::now().as_millisecond();
    assert!(lasted.contains(&millis), "{note}: not within {lasted:?}");
}

/// Checks a failure that counts and is retried, with the language's own message.
fn is_shown(item: &Value, mistake: &Mistake) {
    assert_eq!(item["item"]["attempts"], 2, "{item}");
    has_all(&item["item"]["error"], mistake);
}

fn has_all(error: &Value, (name, code, texts): &Mistake) {
    let message = error["message"].as_str().unwrap_or_default();
    assert_eq!(error["code"], *code, "{name}: {message}");
    for text in *texts {
        assert!(message.contains(text), "{name}: {text:?} is not in {message:?}");
    }
}

async fn item(site: &Site, key: &str) -> Value {
    http::get(site.address, &format!("/api/v1/items/example/{key}")).await.json()
}

fn log_of(item: &Value) -> &str {
    item["attempts"][0]["log"].as_str().unwrap()
}

async fn failed_run(site: &Site) -> Option<Value> {
    let runs = http::get(site.address, "/api/v1/runs?job=broken").await.json();
    let run = runs["runs"].get(0)?.clone();
    (run["state"] == "failed").then_some(run)
}

/// Answers `hello` to every request until the test process ends.
fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            say_hello(stream.unwrap());
        }
    });
    address
}

fn say_hello(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello");
}
