//! All guests of the zoo, in the order of the table in docs/reliability.md.

use std::net::SocketAddr;

use crate::guest::{File, Guest};

const REFUSED_BY_CPU: &str = "describe() failed: cpu-limit";
const COMPUTES: &str = "look for an endless loop";
const TOO_MUCH_MEMORY: &str = "raise limits.memory";
const TOO_MUCH_AT_ONCE: &str = "at once";
const TOO_MANY_HANDLES: &str = "limits.handles";

/// The addresses of two servers: one answers too slowly, the other without end.
pub struct Servers {
    pub slow: SocketAddr,
    pub endless: SocketAddr,
}

pub fn all(servers: &Servers) -> Vec<Guest> {
    let mut all = computing();
    all.extend(memory());
    all.extend(borders());
    all.extend(numbers());
    all.extend(outside(servers));
    all.extend(discoveries());
    all.extend(sharing());
    all.extend(components());
    all.extend(files());
    all
}

fn computing() -> Vec<Guest> {
    vec![
        Guest::fails("M1", "loop-in-process", "cpu-limit", COMPUTES),
        Guest::fails("M1", "loop-for-long", "wall-timeout", "took longer than 300ms")
            .built_as("loop-in-process")
            .limits("cpu_time = \"60s\", wall_time = \"300ms\""),
        Guest::load("M1", "loop-in-describe", REFUSED_BY_CPU),
        Guest::load("M2", "loop-in-start", REFUSED_BY_CPU),
        Guest::fails("M2", "loop-in-realloc", "cpu-limit", COMPUTES),
        Guest::fails("M2", "loop-in-post-return", "cpu-limit", COMPUTES),
        Guest::fails("M6", "deep-recursion", "trap", "call stack exhausted"),
        Guest::fails("M6", "recursion-through-host", "trap", "cannot leave component instance"),
        Guest::fails("M6", "panics", "guest-panic", "fixture panic"),
    ]
}

fn memory() -> Vec<Guest> {
    vec![
        Guest::fails("M3", "memory-fill", "cpu-limit", COMPUTES),
        Guest::fails("M3", "memory-copy", "cpu-limit", COMPUTES)
            .limits("cpu_time = \"300ms\", memory = \"512MiB\"")
            .peak_mib(600),
        Guest::fails("M4", "memory-eater", "memory-limit", TOO_MUCH_MEMORY).limits("cpu_time = \"2s\""),
        Guest::fails("M4", "memory-grow", "memory-limit", TOO_MUCH_MEMORY),
        Guest::fails("M4", "table-grow", "trap", "unreachable"),
        Guest::load("M4", "many-memories", "memories"),
        Guest::load("M4", "many-tables", "tables"),
        Guest::load("M4", "many-instances", "modules and components"),
        Guest::load("M4", "sum-of-memories", "memory-limit"),
        Guest::load("M4", "sum-of-tables", "table"),
        Guest::load("M4", "large-table", "table"),
        Guest::load("M5", "memory-declared", "memory"),
        Guest::load("M5", "many-segments", "data segments"),
        Guest::fails("M37", "memory-eaters", "memory-limit", TOO_MUCH_MEMORY)
            .built_as("memory-eater")
            .times(24)
            .settings("concurrency = 24")
            .limits("cpu_time = \"5s\"")
            .peak_mib(1_100)
            // The pool keeps up to 2 MiB of each of their slots for later calls.
            .kept_mib(24 * 2),
        Guest::resolves("M26", "residue").times(20).settings("concurrency = 1").limits("cpu_time = \"2s\""),
    ]
}

/// Attacks with the data that guest and host exchange.
fn borders() -> Vec<Guest> {
    let sql = "grants = { sql = { witness = \"read\" } }";
    let metrics = "grants = { metrics = true }";
    vec![
        Guest::fails("M7", "string-without-end", "trap", "out of bounds"),
        Guest::fails("M7", "string-of-no-text", "trap", "utf-8"),
        Guest::fails("M7", "string-of-half-pairs", "trap", "surrogate"),
        Guest::fails("M7", "list-between-words", "trap", "not aligned").settings(metrics),
        Guest::fails("M7", "list-beyond-32-bits", "trap", "out of bounds").settings(sql),
        Guest::fails("M7", "list-of-one-string", "hostcall-limit", TOO_MUCH_AT_ONCE).settings(metrics),
        Guest::fails("M7", "answer-nowhere", "trap", "out of bounds"),
        Guest::fails("M7", "answer-between-words", "trap", "not aligned"),
        Guest::fails("M8", "handles-of-buckets", "handle-limit", TOO_MANY_HANDLES)
            .settings("grants = { keyvalue = true }"),
        Guest::fails("M8", "handles-of-timers", "handle-limit", TOO_MANY_HANDLES),
        Guest::fails("M8", "handles-of-headers", "handle-limit", TOO_MANY_HANDLES)
            .settings("grants = { http = [\"http://127.0.0.1:9\"] }"),
        Guest::fails("M8", "handles-of-its-own", "handle-limit", TOO_MANY_HANDLES),
        Guest::fails("M8", "headers-without-end", "trap", "")
            .settings("grants = { http = [\"http://127.0.0.1:9\"] }"),
        Guest::fails("M9", "answer-of-no-kind", "trap", "discriminant"),
        Guest::fails("M9", "answer-neither-way", "trap", "discriminant"),
        Guest::fails("M9", "alert-of-no-severity", "trap", "discriminant")
            .settings("grants = { alerts = true }"),
        Guest::fails("M9", "value-of-no-kind", "trap", "discriminant").settings(sql),
    ]
}

fn numbers() -> Vec<Guest> {
    vec![
        Guest::resolves("M9", "snooze-for-ever").waits(),
        Guest::resolves("M9", "throttle-for-ever").waits(),
        Guest::resolves("M9", "odd-numbers").settings("grants = { metrics = true, keyvalue = true }"),
        Guest::fails("M9", "timer-for-ever", "wall-timeout", "took longer than 1s")
            .limits("wall_time = \"1s\""),
        Guest::fails("M9", "poll-of-nothing", "trap", ""),
    ]
}

/// Attacks through time, servers and databases.
fn outside(servers: &Servers) -> Vec<Guest> {
    let caller = |row, name, at: &SocketAddr, code, says| {
        Guest::fails(row, name, code, says)
            .built_as("caller")
            .payload(format!("{{\"url\":\"http://{at}/\"}}"))
            .limits("http_time = \"500ms\"")
    };
    let granted = |at: &SocketAddr| format!("grants = {{ http = [\"http://{at}\"] }}");
    let (slow, endless) = (&servers.slow, &servers.endless);
    let storm = |name: &'static str, statement: &str, code| {
        Guest::fails("M22", name, code, "")
            .built_as("sql-storm")
            .payload(format!("{{\"statement\":\"{statement}\"}}"))
            .limits("sql_time = \"500ms\"")
            .settings("grants = { sql = { storm = \"read\" } }")
    };
    vec![
        Guest::fails("M11", "sleeper", "wall-timeout", "took longer than 1s")
            .payload("{\"ms\":3600000}".to_owned())
            .limits("wall_time = \"1s\""),
        caller("M11", "slow-answer", slow, "http-answer", "timeout").settings(granted(slow)),
        caller("M17", "not-granted", slow, "http-denied", "").settings(granted(endless)),
        caller("M20", "endless-answer", endless, "http-answer", "exceeds limit").settings(granted(endless)),
        Guest::fails("M13", "log-flood", "cpu-limit", COMPUTES),
        storm("sql-endless", "endless", "sql-limit"),
        storm("sql-many-rows", "many-rows", "sql-limit"),
        storm("sql-large-value", "large-value", "sql-database"),
        storm("sql-many-values", "many-values", "sql-limit"),
        Guest::load("M22", "two-statements", "more than one statement"),
        Guest::load("M22", "attach", "\"attach\" is not allowed"),
        // Its added items are queued before the item of a second try, so the first try has to succeed.
        Guest::resolves("M35", "fork-bomb").settings("grants = { items = [\"fork-bomb\"] }"),
    ]
}

/// Attacks on later items of the same claim, and on others, in instances that items share.
fn sharing() -> Vec<Guest> {
    let remembers = |name, payload: &str| {
        Guest::resolves("M38", name)
            .built_as("remembers")
            .payload(payload.to_owned())
            .settings("grants = { keyvalue = true, http = [\"http://127.0.0.1:9\"] }")
            .times(40)
            .sharing()
    };
    let fails =
        |name, file, code, says| Guest::fails("M38", name, code, says).built_as(file).times(16).sharing();
    vec![
        fails("loops-in-claim", "loop-in-process", "cpu-limit", COMPUTES).times(8),
        fails("panics-in-claim", "panics", "guest-panic", "fixture panic"),
        fails("eaters-in-claim", "memory-eater", "memory-limit", TOO_MUCH_MEMORY)
            .limits("cpu_time = \"5s\"")
            .peak_mib(600),
        fails("floods-in-claim", "log-flood", "cpu-limit", COMPUTES).times(8),
        fails("timers-in-claim", "handles-of-timers", "handle-limit", TOO_MANY_HANDLES),
        fails("recursion-in-claim", "deep-recursion", "trap", "call stack exhausted"),
        remembers("memory-in-claim", "grow 8"),
        remembers("requests-in-claim", "request http://127.0.0.1:9"),
        remembers("handles-in-claim", "handle"),
        remembers("logs-in-claim", "log 200"),
    ]
}

fn discoveries() -> Vec<Guest> {
    vec![
        Guest::run("M15", "pages-without-end", "cursor-stuck"),
        Guest::run("M15", "page-without-end", "trap"),
        Guest::run("M15", "page-of-zero-bytes", "bad-key"),
        Guest::run("M15", "huge-page", "hostcall-limit")
            .built_as("huge-result")
            .limits("items_per_page = 50")
            .settings("config = { huge_discovery = \"true\" }"),
        Guest::fails("M16", "huge-result", "hostcall-limit", TOO_MUCH_AT_ONCE),
    ]
}

/// Components that are rejected, or that only take time.
fn components() -> Vec<Guest> {
    vec![
        Guest::load("M16", "nested-json", "describe() did not answer with a valid document"),
        Guest::weigh("M16", "schema-of-itself"),
        Guest::weigh("M16", "schema-in-a-circle"),
        Guest::load("M16", "schema-elsewhere", "schema"),
        Guest::load("M16", "schema-of-patterns", "schema").settings("config = { text = \"aaaa\" }"),
        Guest::load("M16", "schema-of-backtracking", "schema")
            .settings("config = { text = \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\" }"),
        Guest::load("M28", "nested-components", "in one another"),
        Guest::load("M28", "types-that-double", "not a valid component"),
        Guest::load("M28", "types-that-nest", "not a valid component"),
        Guest::load("M28", "too-large", "larger than"),
        Guest::weigh("M28", "custom-section"),
        Guest::weigh("M28", "long-function"),
        Guest::weigh("M28", "many-locals"),
        Guest::weigh("M28", "many-branches"),
        Guest::weigh("M28", "many-functions"),
        Guest::load("M34", "over-asking", "is not granted"),
        Guest::load("M34", "unknown-import", "this host does not have it"),
        Guest::load("M34", "newer-import", "plugin wants tidemill:job/sql@0.9.0"),
        Guest::load("M34", "newer-contract", "plugin wants tidemill:job/job@0.9.0"),
        Guest::load("M34", "wrong-world", "it does not export tidemill:job/job"),
    ]
}

fn files() -> Vec<Guest> {
    vec![
        Guest::load("M29", "empty-file", "its first 8 bytes are wrong"),
        Guest::load("M29", "half-a-file", "not a valid component"),
        Guest::load("M29", "flipped-bits", "not a valid component"),
        Guest::load("M29", "text-file", "its first 8 bytes are wrong"),
        Guest::load("M29", "core-module", "it is a core module"),
        Guest::load("M29", "machine-code", "its first 8 bytes are wrong"),
        Guest::load("M31", "link-out", "leaves the plugins folder").file(File::Link),
        Guest::load("M31", "pipe", "not a regular file").file(File::Pipe),
        Guest::load("M31", "folder", "not a regular file").file(File::Folder),
        Guest::load("M31", "sparse-file", "larger than").file(File::Sparse),
    ]
}
