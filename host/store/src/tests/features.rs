//! docs/scale.md lists the features of Postgres that the store uses, and what is known about them on other servers.
//! `UPDATE_EXPECT=1` rewrites its table.

use std::fmt::Write;
use std::path::{Path, PathBuf};

/// A feature, and texts of SQL or code that use it.
struct Feature {
    name: &'static str,
    /// One of them is enough.
    texts: &'static [&'static str],
    yugabyte: &'static str,
    citus: &'static str,
}

const fn feature(
    name: &'static str,
    texts: &'static [&'static str],
    yugabyte: &'static str,
    citus: &'static str,
) -> Feature {
    Feature { name, texts, yugabyte, citus }
}

/// The cited pages do not mention it.
const SILENT: &str = "–";
const ONE_NODE: &str = "per node: all hosts connect to the same node (our conclusion)";

const FEATURES: &[Feature] = &[
    feature(
        "`SELECT … FOR UPDATE`",
        &["FOR UPDATE"],
        "supported [2]; conflicts fail or wait depending on isolation and flags [3]",
        "only in queries of one shard [5]",
    ),
    feature(
        "`SKIP LOCKED`",
        &["SKIP LOCKED"],
        "a change of 2021 adds it for `REPEATABLE READ` [10]",
        "as `FOR UPDATE` [5]",
    ),
    feature(
        "session-level advisory locks (presence locks, migrations)",
        &["pg_advisory_lock("],
        "in current versions [2]; older ones refuse them [4]",
        ONE_NODE,
    ),
    feature(
        "transaction-level advisory locks",
        &["advisory_xact_lock"],
        "as session-level ones [2] [4]",
        ONE_NODE,
    ),
    feature(
        "`LISTEN`, `NOTIFY`",
        &["pg_notify(", "PgListener"],
        "early access since v2025.2.3, off unless a flag is set [1]; otherwise `store.notify = false`",
        ONE_NODE,
    ),
    feature("partial indexes", &["CREATE INDEX|WHERE"], "supported [6]", SILENT),
    feature(
        "unique partial indexes",
        &["CREATE UNIQUE INDEX|WHERE"],
        SILENT,
        "like primary keys [7] (our conclusion)",
    ),
    feature(
        "primary keys",
        &["PRIMARY KEY"],
        "hash-distributed by their first column by default: range scans need `ASC` (not examined)",
        "have to include the distribution column [7]",
    ),
    feature(
        "foreign keys",
        &["REFERENCES "],
        SILENT,
        "between tables that are distributed alike (not examined)",
    ),
    feature("`RETURNING`", &["RETURNING "], SILENT, SILENT),
    feature(
        "`INSERT … ON CONFLICT`",
        &["ON CONFLICT"],
        SILENT,
        "the target is a key: like primary keys [7] (our conclusion)",
    ),
    feature("`INSERT … SELECT`", &["INSERT INTO|SELECT"], SILENT, "subqueries in `INSERT` are limited [5]"),
    feature(
        "correlated subqueries",
        &["NOT EXISTS (SELECT", "EXISTS (SELECT"],
        SILENT,
        "only on the distribution column [5]",
    ),
    feature(
        "JSON functions and operators",
        &["jsonb_array_elements_text(", "json_array_elements(", "->>"],
        SILENT,
        SILENT,
    ),
    feature("`LATERAL`", &["LATERAL"], SILENT, "a correlated subquery [5]"),
    feature("`unnest`, arrays made of subqueries", &["unnest(", "ARRAY(SELECT"], SILENT, SILENT),
    feature("`WITH` (common table expressions)", &["WITH fates AS", "\"WITH "], SILENT, SILENT),
    feature(
        "data-modifying `WITH`",
        &["AS (UPDATE", "AS (INSERT", "AS (DELETE"],
        SILENT,
        "limited (not examined)",
    ),
    feature("window functions", &[" OVER ("], SILENT, SILENT),
    feature(
        "row triggers in PL/pgSQL",
        &["FOR EACH ROW"],
        SILENT,
        "not on distributed tables, except by hand on each shard [8]",
    ),
    feature("`TRUNCATE` triggers", &["BEFORE TRUNCATE"], SILENT, "not on distributed tables [8]"),
    feature("`CHECK` constraints", &["CHECK ("], SILENT, SILENT),
    feature(
        "`ctid`",
        &[" ctid", ".ctid", "(ctid"],
        "a row has no place in a heap (not examined)",
        "per shard (not examined)",
    ),
    feature("`fillfactor`", &["fillfactor"], "its indexes do not have this parameter [9]", SILENT),
    feature("BRIN indexes", &["USING brin", "USING BRIN"], "no heap blocks to index (not examined)", SILENT),
    feature(
        "declarative partitions",
        &["PARTITION BY RANGE", "PARTITION OF", "PARTITION BY LIST"],
        SILENT,
        "no multi-level ones [5]",
    ),
    feature(
        "isolation levels `READ COMMITTED` and `REPEATABLE READ`",
        &["read committed", "REPEATABLE READ"],
        "`READ COMMITTED` needs a flag in some versions; without it, it is snapshot isolation, and more transactions are repeated [3]",
        SILENT,
    ),
    feature(
        "planner settings (`enable_seqscan` and others off)",
        &["enable_seqscan"],
        "another storage engine, other plans (not examined)",
        "apply to the node of the session only (not examined)",
    ),
    feature(
        "timeouts of sessions and statements",
        &["statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"],
        SILENT,
        SILENT,
    ),
    feature("TCP keepalives set by a session", &["tcp_keepalives_idle"], SILENT, SILENT),
    feature(
        "the process of a session (`pg_backend_pid`)",
        &["pg_backend_pid()"],
        "one process of one node (not examined)",
        ONE_NODE,
    ),
    feature(
        "`clock_timestamp()` as the time of all hosts",
        &["clock_timestamp()"],
        "the clock of the node of the session: nodes may differ (not examined)",
        "the same (not examined)",
    ),
    feature("`hashtextextended`", &["hashtextextended("], SILENT, SILENT),
];

const BEGIN: &str = "<!-- The test `features` of the store writes this table. -->";
const END: &str = "<!-- End of the table. -->";

/// The sources whose SQL runs on Postgres.
fn sources() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "../../migrations/common", "../../migrations/postgres"] {
        collect(&root.join(folder), &mut files);
    }
    let has_postgres = |file: &PathBuf| {
        let path = file.to_string_lossy();
        !path.contains("/tests/") && !path.ends_with("/sqlite.rs")
    };
    files.sort();
    files
        .iter()
        .filter(|file| has_postgres(file))
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, files),
            false => files.push(path),
        }
    }
}

/// The statements and pieces of code, without comments.
fn statements(source: &str) -> Vec<String> {
    let is_comment = |line: &&str| !["//", "--"].iter().any(|start| line.trim_start().starts_with(start));
    let text: Vec<&str> = source.lines().filter(is_comment).collect();
    text.join(" ").split(';').map(str::to_owned).collect()
}

/// `a|b` is in a statement that has both.
fn uses(statement: &str, text: &str) -> bool {
    text.split('|').all(|part| statement.contains(part))
}

fn table(sources: &[String]) -> String {
    let statements: Vec<String> = sources.iter().flat_map(|source| statements(source)).collect();
    let mut table = "| feature of Postgres | YugabyteDB | Citus |\n|---|---|---|\n".to_owned();
    for Feature { name, texts, yugabyte, citus } in FEATURES {
        let is_used = texts.iter().any(|text| statements.iter().any(|statement| uses(statement, text)));
        if is_used {
            writeln!(table, "| {name} | {yugabyte} | {citus} |").unwrap();
        }
    }
    table
}

#[test]
fn the_used_features_of_postgres_are_documented() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/scale.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (head, rest) = text.split_once(BEGIN).expect("docs/scale.md has the begin of the table");
    let (documented, tail) = rest.split_once(END).expect("docs/scale.md has the end of the table");
    let used = format!("\n{}", table(&sources()));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        return std::fs::write(&file, format!("{head}{BEGIN}{used}{END}{tail}")).unwrap();
    }
    assert_eq!(documented, used, "UPDATE_EXPECT=1 rewrites the table of docs/scale.md");
}

#[test]
fn a_feature_in_a_comment_is_not_used() {
    let named = ["-- FOR UPDATE\nSELECT 1;".to_owned(), "/// LATERAL\nfn f() {}".to_owned()];
    assert_eq!(table(&named).lines().count(), 2);
    let used = ["CREATE INDEX a ON b (c)\n    WHERE d;\nSELECT e FROM b FOR UPDATE".to_owned()];
    let found = table(&used);
    assert!(found.contains("| partial indexes |") && found.contains("| `SELECT … FOR UPDATE` |"), "{found}");
}
