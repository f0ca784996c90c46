//! Each mistake with its whole message; the example; variables over the file.

use std::ffi::OsString;
use std::path::Path;

use expect_test::{Expect, expect};
use jiff::Timestamp;

use crate::config::{Config, ConfigError, Environment, show, text};

pub fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

pub fn load(bytes: &[u8], variables: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidemill.toml");
    std::fs::write(&file, bytes).unwrap();
    let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), OsString::from(v)));
    let result = Config::load(&file, &Environment(variables.collect()), now());
    let folder = folder.path().to_str().unwrap();
    result.map_err(|e: ConfigError| e.to_string().replace(&format!("{folder}/"), ""))
}

pub fn check(toml: &str, expected: Expect) {
    check_with(toml, &[], expected);
}

fn check_with(toml: &str, variables: &[(&str, &str)], expected: Expect) {
    expected.assert_eq(&load(toml.as_bytes(), variables).err().unwrap_or_default());
}

#[test]
fn keys_and_kinds() {
    check(
        "[server]\nlisten = \"127.0.0.1:7070\"\nlisen = 1\n[sotre]\nurl = \"\"\n",
        expect![[r#"
        tidemill.toml:3: server.lisen: there is no such key; did you mean "listen"?
        tidemill.toml:4: sotre: there is no such key; did you mean "store"?"#]],
    );
    check(
        "[jobs.a]\nplugin = \"a\"\nconcurency = 3\nzzzzzz = 1\n",
        expect![[r#"
            tidemill.toml:3: jobs.a.concurency: there is no such key; did you mean "concurrency"?
            tidemill.toml:4: jobs.a.zzzzzz: there is no such key; remove it; known here: plugin, schedule, enabled, config, grants, limits, retry, concurrency, concurrency_total, concurrency_per_prefix, items_per_run_max, priority, prefix_separator, rate, resolve_when_absent, failed_alert, on_store_loss, isolation"#]],
    );
    check(
        "[jobs.a]\nplugin = 7\nconcurrency = \"4\"\nresolve_when_absent = \"yes\"\n",
        expect![[r#"
        tidemill.toml:2: jobs.a.plugin: expected text, found a whole number; put it in quotes
        tidemill.toml:3: jobs.a.concurrency: expected a whole number, found text; use a whole number from 1 to 4096
        tidemill.toml:4: jobs.a.resolve_when_absent: expected true or false, found text; use true or false, without quotes"#]],
    );
    check(
        "[jobs.a]\nplugin = \"a\"\ngrants = { events = \"Topic\", sql = [], keyvalue = 1 }\n",
        expect![[r#"
        tidemill.toml:3: jobs.a.grants.events: expected a list of texts, found text; use a list like ["a", "b"]
        tidemill.toml:3: jobs.a.grants.keyvalue: expected true or false, found a whole number; use true or false, without quotes
        tidemill.toml:3: jobs.a.grants.sql: expected a table, found a list; use a section [jobs.a.grants.sql] or { key = value }"#]],
    );
    check(
        "jobs = 3\nserver = \"x\"\n",
        expect![[r#"
        tidemill.toml:1: jobs: expected a table, found a whole number; use a section [jobs] or { key = value }
        tidemill.toml:2: server: expected a table, found text; use a section [server] or { key = value }"#]],
    );
    check(
        "[jobs.a]\nplugin = \"a\"\nconcurrency = 0\nitems_per_run_max = 99999999999999999999999999\n",
        expect![[r#"
        tidemill.toml:3: jobs.a.concurrency: 0 is out of range; use a whole number from 1 to 4096
        tidemill.toml:4: jobs.a.items_per_run_max: 99999999999999999999999999 is out of range; use a whole number from 1 to 1000000"#]],
    );
}

#[test]
fn jobs() {
    check(
        "[jobs.Wallet]\nplugin = \"a\"\n",
        expect![[
            r#"tidemill.toml:1: jobs.Wallet: "Wallet" is not a job's name: 'W' is not allowed in it; use a-z, 0-9, - and _, starting with a letter, like "wallet-2""#
        ]],
    );
    check(
        "[jobs.wallet]\nconcurrency = 2\n",
        expect![[
            r#"tidemill.toml:1: jobs.wallet.plugin: the job names no plugin; add plugin = "name", as in plugins/name.wasm"#
        ]],
    );
    check(
        "[jobs.wallet]\nplugin = \"plugins/a.wasm\"\n",
        expect![[
            r#"tidemill.toml:2: jobs.wallet.plugin: "plugins/a.wasm" is not a plugin's name: '/' is not allowed in it; write the file's name without .wasm"#
        ]],
    );
    check(
        "[jobs.a]\nplugin = \"a\"\nrate = \"10 per minute\"\n",
        expect![[
            r#"tidemill.toml:3: jobs.a.rate: "10 per minute" is not a rate; use "attempts/window", like "10/1m""#
        ]],
    );
    check(
        "[jobs.a]\nplugin = \"a\"\nrate = \"0/1m\"\n",
        expect![[
            r#"tidemill.toml:3: jobs.a.rate: "0/1m" would let nothing run; use "attempts/window", like "10/1m""#
        ]],
    );
    check(
        "[jobs.a]\nplugin = \"a\"\nconfig = { list = [1], ok = 2 }\n",
        expect![
            "tidemill.toml:3: jobs.a.config.list: a plugin reads text, this is a list; write it as text, in JSON for example"
        ],
    );
    check(
        "[jobs.a]\nplugin = \"a\"\n[jobs.a.grants]\nsql = { business = \"read\" }\n",
        expect![[
            r#"tidemill.toml:4: jobs.a.grants.sql.business: there is no datasource "business"; add [datasources.business] with its url"#
        ]],
    );
    check(
        "[datasources.business]\nurl = \"postgres://h/d\"\n[jobs.a]\nplugin = \"a\"\n[jobs.a.grants]\nsql = { bussiness = \"read\", business = \"write\" }\n",
        expect![[r#"
            tidemill.toml:6: jobs.a.grants.sql.business: the access is not known; use "read" or "read-write"
            tidemill.toml:6: jobs.a.grants.sql.bussiness: there is no datasource "bussiness"; use one of: business"#]],
    );
    check(
        "[jobs.a]\nplugin = \"a\"\n[jobs.a.retry]\nbase = \"1h\"\ncap = \"1m\"\nfactor = 0.5\njitter = 2\nmax_attempts = \"none\"\nforget_after = \"1y\"\ncrashes_max = 0\n",
        expect![[r#"
            tidemill.toml:5: jobs.a.retry.cap: the cap of 1m is below the base of 1h; raise retry.cap or lower retry.base
            tidemill.toml:6: jobs.a.retry.factor: 0.5 is out of range; use a number from 1 to 100
            tidemill.toml:7: jobs.a.retry.jitter: 2 is out of range; use a number from 0 to 1
            tidemill.toml:8: jobs.a.retry.max_attempts: "none" is neither a number nor "unbounded"; use a whole number from 1 to 1000000, or "unbounded"
            tidemill.toml:9: jobs.a.retry.forget_after: "1y" is not a duration: months and years have no fixed length; use a duration like "500ms", "30s", "1h 30m" or "7d"
            tidemill.toml:10: jobs.a.retry.crashes_max: 0 is out of range; use a whole number from 1 to 1000"#]],
    );
    check(
        "[jobs.a]\nplugin = \"a\"\n[jobs.a.limits]\nmemory = \"2GiB\"\ncpu_time = \"1h\"\nwall_time = 60\nlog = \"much\"\nhandles = -1\nkv_value = \"0B\"\n",
        expect![[r#"
            tidemill.toml:4: jobs.a.limits.memory: 2GiB is above the ceiling of 512MiB; use at most 512MiB
            tidemill.toml:5: jobs.a.limits.cpu_time: 1h is above the ceiling of 5m; use at most 5m
            tidemill.toml:6: jobs.a.limits.wall_time: expected text, found a whole number; use a duration like "500ms", "30s", "1h 30m" or "7d"
            tidemill.toml:7: jobs.a.limits.log: "much" is not a size; use a size like "64MiB", "256KiB" or "512B"
            tidemill.toml:8: jobs.a.limits.handles: -1 is out of range; use a whole number from 1 to 65536
            tidemill.toml:9: jobs.a.limits.kv_value: a limit of 0 lets nothing run; use a larger value"#]],
    );
}

#[test]
fn failures_by_code() {
    check(
        "[jobs.a]\nplugin = \"a\"\n[jobs.a.retry.by_code]\n\"a-*\" = \"stop\"\n\"*\" = \"retry\"\n\"a*b\" = \"retry\"\nc = \"wait\"\nd = \"throttle soon\"\ne = 5\n",
        expect![[r#"
            tidemill.toml:5: jobs.a.retry.by_code.*: "*" is no code, nor the beginning of one with a * at its end; write it like "http-status-404" or "http-*"
            tidemill.toml:6: jobs.a.retry.by_code.a*b: "a*b" is no code, nor the beginning of one with a * at its end; write it like "http-status-404" or "http-*"
            tidemill.toml:7: jobs.a.retry.by_code.c: "wait" is not known; use "retry", "stop", "throttle", or "throttle 5m"
            tidemill.toml:8: jobs.a.retry.by_code.d: "soon" is not a duration: failed to parse input in the "friendly" duration format: expected duration to start with a unit value (a decimal integer) after an optional sign, but no integer was found; use "retry", "stop", "throttle", or "throttle 5m"
            tidemill.toml:9: jobs.a.retry.by_code.e: expected text, found a whole number; use "retry", "stop", "throttle", or "throttle 5m""#]],
    );
}

#[test]
fn where_requests_may_go() {
    check(
        "[jobs.a]\nplugin = \"a\"\ngrants.http = [\"http://ok:9000\", \"stock\", \"http://stock/api\"]\n[tls]\nca_file = \"no.pem\"\n",
        expect![[r#"
            tidemill.toml:3: jobs.a.grants.http: "http://stock/api" is not an address for requests: it holds more than scheme, host and port; give scheme, host and port, like "https://stock.example.com" or "http://10.0.0.5:9000"
            tidemill.toml:3: jobs.a.grants.http: "stock" is not an address for requests: it begins with neither http:// nor https://; give scheme, host and port, like "https://stock.example.com" or "http://10.0.0.5:9000"
            tidemill.toml:5: tls.ca_file: no.pem cannot be read: No such file or directory (os error 2); name a PEM file, like "/etc/ssl/certs/ca-certificates.crt""#]],
    );
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let reported = load(format!("[tls]\nca_file = {file:?}\n").as_bytes(), &[]).unwrap_err();
    assert!(reported.contains("/Cargo.toml holds no certificate; name a PEM file, like"), "{reported}");
}

#[test]
fn addresses() {
    check(
        "[server]\nlisten = \"0.0.0.0:7070\"\n",
        expect![
            "tidemill.toml:2: server.listen: 0.0.0.0 can be reached by others, and reading needs no token; use 127.0.0.1 or [::1]"
        ],
    );
    check(
        "[server]\nlisten = \"127.0.0.1:http\"\n",
        expect![[
            r#"tidemill.toml:2: server.listen: "127.0.0.1:http" is not an address with a port; use "127.0.0.1:7070" or "[::1]:7070""#
        ]],
    );
    check(
        "[server]\nlisten = \"127.0.0.1:99999\"\n",
        expect![[
            r#"tidemill.toml:2: server.listen: "127.0.0.1:99999" is not an address with a port; use "127.0.0.1:7070" or "[::1]:7070""#
        ]],
    );
    check(
        "[store]\nurl = \"mysql://root:secret@h/d\"\n",
        expect![[
            r#"tidemill.toml:2: store.url: the scheme "mysql" is not supported; use sqlite://path/to/file.db or postgres://user@host/database"#
        ]],
    );
    check(
        "[store]\nurl = \"tidemill.db\"\n",
        expect![[
            r#"tidemill.toml:2: store.url: "tidemill.db" is not a database address; use sqlite://path/to/file.db or postgres://user@host/database"#
        ]],
    );
    check(
        "[store]\nurl = \"postgres://\"\n",
        expect![[
            r#"tidemill.toml:2: store.url: "postgres://" names no host; use sqlite://path/to/file.db or postgres://user@host/database"#
        ]],
    );
    check(
        "[store]\nurl = \"sqlite::memory:\"\n",
        expect![
            "tidemill.toml:2: store.url: a database in memory forgets everything at a restart; use sqlite://path/to/file.db or postgres://user@host/database"
        ],
    );
    check(
        "[store]\nurl = \"sqlite://data/tidemill.db\"\n[datasources.own]\nurl = \"sqlite://./data/../data/tidemill.db?mode=ro\"\n[datasources.none]\n",
        expect![[r#"
            tidemill.toml:4: datasources.own.url: this is the store's own file: a plugin could change the host's records; use a file of its own for business data
            tidemill.toml:5: datasources.none.url: the datasource has no address; add url = "postgres://…" or "sqlite://…""#]],
    );
    check(
        "[plugins]\ndir = \"\"\n[host]\nname = \"\"\n[log]\nformat = \"xml\"\nfilter = \"=loud=\"\n",
        expect![[r#"
        tidemill.toml:2: plugins.dir: the path is empty; name a folder, like "plugins"
        tidemill.toml:4: host.name: a host's name has 1 to 64 bytes; change it, or remove it to use the machine's name
        tidemill.toml:6: log.format: "xml" is not known; use "text" or "json"
        tidemill.toml:7: log.filter: "=loud=" is not a log filter: invalid filter directive; use a level like "info", or "info,engine=debug""#]],
    );
}

#[test]
fn files() {
    check(
        "",
        expect![
            "tidemill.toml: the file contains no settings; name at least one job; docs/tidemill.example.toml shows every key"
        ],
    );
    check(
        "# nothing\n",
        expect![
            "tidemill.toml: the file contains no settings; name at least one job; docs/tidemill.example.toml shows every key"
        ],
    );
    check(
        "[store]\nurl = \"postgres://h/d\"\nurl = \"postgres://h/e\"\n",
        expect!["tidemill.toml:3: not valid TOML: duplicate key; keep one of the two"],
    );
    check(
        "[store\nurl = \"x\"\n[jobs.a]\nplugin = a\n",
        expect![[r#"
        tidemill.toml:1: not valid TOML: unclosed table, expected `]`; write texts in quotes and sections in [brackets]; docs/tidemill.example.toml shows every key
        tidemill.toml:4: not valid TOML: string values must be quoted, expected literal string; write texts in quotes and sections in [brackets]; docs/tidemill.example.toml shows every key"#]],
    );
    let reported = load(b"[store]\nurl = \"\xff\"\n", &[]).unwrap_err();
    expect!["tidemill.toml: line 2 is not UTF-8; save the file as UTF-8"].assert_eq(&reported);
    let missing = Config::load(Path::new("no/such/tidemill.toml"), &Environment::default(), now());
    expect!["no/such/tidemill.toml: cannot be read: No such file or directory (os error 2); name the file with --config, or start from docs/tidemill.example.toml"].assert_eq(&missing.unwrap_err().to_string());
}

#[test]
fn invalid_variables_are_refused() {
    let job = "[jobs.wallet-retry]\nplugin = \"a\"\n";
    check_with(
        job,
        &[("TIDEMILL__STORE__URI", "x")],
        expect![[
            r#"environment variable TIDEMILL__STORE__URI: store.uri: there is no such key; did you mean "url"?"#
        ]],
    );
    check_with(
        job,
        &[("TIDEMILL__JOBS__OTHER__CONCURRENCY", "1")],
        expect![[
            r#"environment variable TIDEMILL__JOBS__OTHER__CONCURRENCY: no job is named "other"; add the job to the file first; in a variable's name its - becomes _"#
        ]],
    );
    check_with(
        job,
        &[("TIDEMILL__JOBS__WALLET_RETRY__CONCURRENCY", "many")],
        expect![
            "environment variable TIDEMILL__JOBS__WALLET_RETRY__CONCURRENCY: jobs.wallet-retry.concurrency: expected a whole number, found text; use a whole number from 1 to 4096"
        ],
    );
    check_with(
        job,
        &[("TIDEMILL__JOBS__WALLET_RETRY__PLUGIN__NAME", "a")],
        expect![[
            r#"environment variable TIDEMILL__JOBS__WALLET_RETRY__PLUGIN__NAME: jobs.wallet-retry.plugin is text, so it holds no key "name"; shorten the variable's name, or write a table in the file"#
        ]],
    );
    check_with(
        job,
        &[("TIDEMILL____URL", "a")],
        expect![
            "environment variable TIDEMILL____URL: a part of the name is empty; use TIDEMILL__SECTION__KEY, with two underscores between the parts"
        ],
    );
    check_with(
        job,
        &[("TIDEMILL__SERVER__LISTEN", "0.0.0.0:1")],
        expect![
            "environment variable TIDEMILL__SERVER__LISTEN: server.listen: 0.0.0.0 can be reached by others, and reading needs no token; use 127.0.0.1 or [::1]"
        ],
    );
    check_with(
        "[jobs.a-b]\nplugin = \"a\"\n[jobs.a_b]\nplugin = \"a\"\n",
        &[("TIDEMILL__JOBS__A_B__CONCURRENCY", "1")],
        expect![
            "environment variable TIDEMILL__JOBS__A_B__CONCURRENCY: it can mean jobs.a-b and jobs.a_b; rename one of the two"
        ],
    );
}

const VARIABLES: [(&str, &str); 12] = [
    ("TIDEMILL__STORE__URL", "postgres://t:secret@db/tidemill"),
    ("TIDEMILL__SERVER__LISTEN", "[::1]:0"),
    ("TIDEMILL__DATASOURCES__BUSINESS__URL", "postgres://b:p%40ss@db/business?sslmode=require"),
    ("TIDEMILL__JOBS__WALLET_RETRY__CONCURRENCY", "9"),
    ("TIDEMILL__JOBS__WALLET_RETRY__SCHEDULE__TZ", "Europe/Berlin"),
    ("TIDEMILL__JOBS__WALLET_RETRY__CONFIG__BATCH_SIZE", "50"),
    ("TIDEMILL__JOBS__WALLET_RETRY__GRANTS", "{ sql = { business = \"read\" }, keyvalue = true }"),
    ("TIDEMILL__JOBS__WALLET_RETRY__GRANTS__EVENTS", "[\"A\", \"B\"]"),
    ("TIDEMILL__JOBS__WALLET_RETRY__RETRY__MAX_ATTEMPTS", "unbounded"),
    ("TIDEMILL__JOBS__WALLET_RETRY__RETRY__FACTOR", "1.5"),
    ("TIDEMILL__JOBS__WALLET_RETRY__RESOLVE_WHEN_ABSENT", "true"),
    ("TIDEMILL__HOST__NAME", "box"),
];

#[test]
fn places_turns_and_memory() {
    check(
        "[engine]\nmemory = \"32MiB\"\n[jobs.a]\nplugin = \"a\"\npriority = 10\nprefix_separator = \"-\"\n\
         [jobs.b]\nplugin = \"b\"\nconcurrency_per_prefix = 0\n[jobs.b.limits]\nmemory = \"32MiB\"\n",
        expect![[r#"
            tidemill.toml:3: jobs.a.limits.memory: an attempt may take 64MiB, and all guests of this host have 32MiB; lower it, or raise engine.memory (`tidemill config show` says where it comes from)
            tidemill.toml:5: jobs.a.priority: 10 is out of range; use a whole number from 1 to 9
            tidemill.toml:6: jobs.a.prefix_separator: prefixes have no limit; add concurrency_per_prefix = 1, or remove this
            tidemill.toml:9: jobs.b.concurrency_per_prefix: 0 is out of range; use a whole number from 1 to 100000"#]],
    );
}

/// The effective configuration of the example for variables, without limits: those of the example
/// have a separate test.
fn wallet_retry() -> String {
    let file = "[jobs.wallet-retry]\nplugin = \"a\"\nschedule = { cron = \"@daily\" }\nconfig = { Batch-Size = 1 }\n";
    let config = load(file.as_bytes(), &VARIABLES).unwrap();
    let mut shown = show::effective(&config);
    let folder = config.data_dir.parent().unwrap().display().to_string();
    shown = shown.replace(&folder, "/etc/tidemill");
    let from = config.engine.memory_from.as_ref().unwrap();
    let machine =
        format!("\"{}\"  # unless given, from {from}", text::show_bytes(config.engine.memory_bytes as u64));
    shown = shown.replace(&machine, "(of this machine)");
    shown.split_once("\n[jobs.wallet-retry.limits]").unwrap().0.to_owned()
}

#[test]
fn variables_override_the_file() {
    expect![[r#"
        [server]
        listen = "[::1]:0"

        [server.limits]
        connections = 256
        connections_per_peer = 224
        requests = 64
        head_time = "10s"
        body_time = "1m"
        stall_time = "10s"
        bodies = "64MiB"
        answers = "64MiB"

        [host]
        data_dir = "/etc/tidemill/data"
        name = "box"

        [store]
        url = "postgres://t@db/tidemill"
        notify = true

        [plugins]
        dir = "/etc/tidemill/plugins"
        signatures = "off"
        keys = []
        shared = true
        approval = "off"
        component_size = "32MiB"
        compile_time = "1m"
        compile_memory = "1GiB"
        describe_time = "1s"

        [log]
        format = "text"
        filter = "info,sqlx=warn,wasmtime=warn,cranelift=warn,hyper=warn,async_nats=off"

        [engine]
        recovery_every = "5s"
        hosts_kept = "168h"
        history_kept = "2160h"
        alerts_kept = "720h"
        memory = (of this machine)

        [datasources.business]
        url = "postgres://b@db/business?sslmode=require"
    "#]]
    .assert_eq(wallet_retry().split_once("\n[jobs.").unwrap().0);
}

#[test]
fn variables_override_a_job() {
    expect![[r#"
        wallet-retry]
        plugin = "a"
        # schedule = cron @daily (Europe/Berlin); overlap skip, catch_up last
        concurrency = 9
        priority = 5
        resolve_when_absent = true
        on_store_loss = "stop"
        isolation = "item"

        [jobs.wallet-retry.config]
        "Batch-Size" = "50"

        [jobs.wallet-retry.grants]
        sql = { business = "read" }
        events = ["A", "B"]
        keyvalue = true
        alerts = false
        audit = false
        metrics = false
        items = []
        locks = []
        http = []
        http_private = false
        secrets = {}

        [jobs.wallet-retry.failed_alert]
        kind = "ITEMS_FAILED"
        error_above = 10

        [jobs.wallet-retry.retry]
        base = "10s"
        factor = 1.5
        cap = "30m"
        jitter = 0.1
        max_attempts = "unbounded"
        min_delay = "10s"
        deferrals_max = 500
        when_exhausted = "manual"
        crashes_max = 5
    "#]]
    .assert_eq(wallet_retry().split_once("\n[jobs.").unwrap().1);
}

#[test]
fn the_example_is_valid_and_shows_the_defaults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/tidemill.example.toml");
    let config = Config::load(&file, &Environment::default(), now()).unwrap();
    let names: Vec<&str> = config.jobs.iter().map(|job| job.name.as_str()).collect();
    assert_eq!(names, ["hello", "hello-by-hand", "wallet-keygen-retry"]);
    let wallet = &config.jobs[2];
    assert_eq!(
        wallet.limits,
        domain::limits::Limits::DEFAULT,
        "the example says that these are the defaults"
    );
    assert_eq!(wallet.retry.forget_after, Some(jiff::SignedDuration::from_hours(7 * 24)));
    assert_eq!(wallet.retry.max_attempts, None);
    assert_eq!(wallet.config["timeout"], "10m");

    // The output can be parsed again and means the same.
    let shown = show::effective(&config);
    let again = load(shown.as_bytes(), &[]).unwrap();
    assert_eq!(again.jobs.len(), config.jobs.len());
    assert_eq!(again.jobs[2].grants, wallet.grants);
    assert_eq!(again.jobs[2].limits, wallet.limits);
    assert_eq!(again.jobs[2].retry, wallet.retry);
}

#[test]
fn values_are_read() {
    use crate::config::text::{bytes, duration, show_bytes};
    for text in ["7d", "168h", "1w"] {
        assert_eq!(duration(text).unwrap(), jiff::SignedDuration::from_hours(168), "{text}");
    }
    for text in ["", "-5s", "1mo", "five", "10"] {
        assert!(duration(text).is_err(), "{text}");
    }
    for text in ["1B", "512B", "3KiB", "64MiB", "2GiB"] {
        assert_eq!(show_bytes(bytes(text).unwrap()), text);
    }
    for text in ["", "64", "64MB", "-1B", "1.5MiB", "99999999999999GiB"] {
        assert!(bytes(text).is_err(), "{text}");
    }
}

const ORIGINAL: [(&str, &str); 9] = [
    ("JOB_OUTBOX_BATCH_SIZE", "7"),
    ("JOB_FINALIZE_RETRY_LIMIT", "4"),
    ("JOB_FINALIZE_STUCK_THRESHOLD_SEC", "90"),
    ("METRICS_ENABLED", "false"),
    ("ENABLE_AUTO_CRON", "false"),
    ("REPLENISH_INTERVAL_MINUTES", "15"),
    ("CAMPAIGN_CONCURRENCY", "5"),
    ("REPLENISH_RETRY_TIMES", "2"),
    ("REPLENISH_RETRY_DELAY_MS", "30000"),
];

/// The environment variables of the original systems work on the demo's jobs.
#[test]
fn variables_of_the_original_systems() {
    let config = load(demo::CONFIG.as_bytes(), &ORIGINAL).unwrap();
    let job = |name: &str| config.jobs.iter().find(|job| job.name.as_str() == name).unwrap();
    assert_eq!(job("ledger-outbox").config["batch_size"], "7");
    assert_eq!(job("finalize-retry").retry.max_attempts, Some(4));
    assert_eq!(job("finalize-recover").config["stuck_threshold_seconds"], "90");
    assert_eq!(job("metrics-collect").config["enabled"], "false");
    for name in ["stock-replenish", "lease-recovery", "monitoring-alert"] {
        assert_eq!(job(name).schedule.to_string(), "manual", "{name} is switched off");
    }
    let on = load(demo::CONFIG.as_bytes(), &[("REPLENISH_INTERVAL_MINUTES", "15")]).unwrap();
    let stock = on.jobs.iter().find(|job| job.name.as_str() == "stock-replenish").unwrap();
    assert_eq!(stock.schedule.to_string(), "every 15m");
    let (stock, half_a_minute) = (job("stock-replenish"), jiff::SignedDuration::from_secs(30));
    assert_eq!((stock.flow.concurrency, stock.retry.max_attempts), (5, Some(2)));
    assert_eq!((stock.retry.base, stock.retry.cap), (half_a_minute, half_a_minute));
    let over = [("JOB_OUTBOX_BATCH_SIZE", "7"), ("TIDEMILL__JOBS__LEDGER_OUTBOX__CONFIG__BATCH_SIZE", "9")];
    let config = load(demo::CONFIG.as_bytes(), &over).unwrap();
    let job = config.jobs.iter().find(|job| job.name.as_str() == "ledger-outbox").unwrap();
    assert_eq!(job.config["batch_size"], "9", "our own name wins");
}

#[test]
fn mapped_variables() {
    let file = "[jobs.a]\nplugin = \"a\"\nschedule = { every = \"10m\" }\n[environment]\n\
        MINUTES = \"jobs.a.schedule.every as {}m\"\nLIMIT = [\"jobs.a.concurrency\", \"jobs.b.concurrency\"]\n\
        BAD = 7\nHOLLOW = \"jobs.a.retry.base as s\"\n";
    let good = "[jobs.a]\nplugin = \"a\"\nschedule = { every = \"10m\" }\n[environment]\n\
        MINUTES = \"jobs.a.schedule.every as {}m\"\n";
    let config = load(good.as_bytes(), &[("MINUTES", "3")]).unwrap();
    assert_eq!(config.jobs[0].schedule.to_string(), "every 3m");
    assert_eq!(load(good.as_bytes(), &[]).unwrap().jobs[0].schedule.to_string(), "every 10m");
    check_with(
        good,
        &[("MINUTES", "soon")],
        expect![[
            r#"environment variable MINUTES: jobs.a.schedule.every: "soonm" is not a duration: failed to parse input in the "friendly" duration format: expected duration to start with a unit value (a decimal integer) after an optional sign, but no integer was found; use a duration like "500ms", "30s", "1h 30m" or "7d""#
        ]],
    );
    check_with(
        file,
        &[("MINUTES", "3"), ("LIMIT", "many"), ("HOLLOW", "1")],
        expect![[r#"
        tidemill.toml:7: environment.BAD: expected a key as text, found a whole number; write NAME = "section.key", or "section.key as {}m" where the value needs a unit
        environment variable HOLLOW: "s" has no {} for the value; write NAME = "section.key", or "section.key as {}m" where the value needs a unit
        environment variable LIMIT: no job is named "b"; add the job to the file first; in a variable's name its - becomes _
        environment variable LIMIT: jobs.a.concurrency: expected a whole number, found text; use a whole number from 1 to 4096"#]],
    );
}

#[test]
fn unknown_parameters_of_database_addresses_are_refused() {
    let refused = |url: &str| {
        let toml = format!("[store]\nurl = \"{url}\"\n");
        let error = load(toml.as_bytes(), &[]).err().unwrap_or_default();
        assert!(!error.contains("hunter2"), "{error}");
        error
    };
    for (url, suggested) in [
        ("postgres://ada@db/x?sslmod=require", "did you mean \"sslmode\"?"),
        ("postgres://ada@db/x?pasword=hunter2", "did you mean \"password\"?"),
        ("postgres://ada@db/x?sslmode=requrie", "require, verify-ca"),
        ("sqlite://data/x.db?mod=ro", "did you mean \"mode\"?"),
        ("sqlite://data/x.db?mode=read", "ro, rw, rwc"),
    ] {
        let error = refused(url);
        assert!(error.contains(suggested), "{url}: {error}");
    }
    let fine = "postgres://ada@db/x?sslmode=require&options[search_path]=public";
    assert!(!refused(fine).contains("parameter"), "{fine}");
}
