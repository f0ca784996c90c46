//! What a test needs from this machine. If it is missing, the test is skipped and one line on stderr gives
//! the reason; with `TIDEMILL_TEST_ALL=1`, which `cargo xtask test` sets, the test fails.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use crate::database::block_on;
use crate::servers::{Postgres, program};

const FAIL_IF_MISSING: &str = "TIDEMILL_TEST_ALL";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A Postgres server: that of `TIDEMILL_TEST_POSTGRES`, or the programs to start one.
    Postgres,
    /// Programs to start more Postgres servers.
    PostgresPrograms,
    PgBouncer,
    /// The components that `cargo xtask plugins` builds.
    Plugins,
    /// The binary `tidemill`, and the plugins.
    Product,
    /// The components that `cargo xtask examples` builds.
    Examples,
}

impl Need {
    /// Whether the test can run.
    pub fn is_met(self) -> bool {
        let Err(missing) = self.check() else { return true };
        assert!(std::env::var_os(FAIL_IF_MISSING).is_none(), "{missing}");
        static REPORTED: Mutex<Vec<Need>> = Mutex::new(Vec::new());
        let mut reported = REPORTED.lock().unwrap();
        if !reported.contains(&self) {
            reported.push(self);
            // The harness would capture the output of `eprintln!`. One write is not mixed with its lines.
            let line = format!("skipped: all tests that need {missing}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        false
    }

    /// The error names what is missing, and the remedy.
    fn check(self) -> Result<(), String> {
        match self {
            Need::Postgres if server().is_some() => Ok(()),
            Need::Postgres => Err("Postgres (install it, or set TIDEMILL_TEST_POSTGRES)".to_owned()),
            Need::PostgresPrograms if program("initdb").is_some() => Ok(()),
            Need::PostgresPrograms => Err("the programs of Postgres (install them)".to_owned()),
            Need::PgBouncer if program("pgbouncer").is_some() => Need::Postgres.check(),
            Need::PgBouncer => Err("PgBouncer (install it)".to_owned()),
            Need::Plugins if plugins().join("fixtures").is_dir() => Ok(()),
            Need::Plugins => Err(format!("{} (run `cargo xtask plugins`)", plugins().display())),
            // `cargo xtask plugins` builds only the one in Rust.
            Need::Examples if plugins().join("examples/c.wasm").is_file() => Ok(()),
            Need::Examples => Err("the examples (run `cargo xtask examples`)".to_owned()),
            Need::Product if binary().is_file() => Need::Plugins.check(),
            Need::Product => Err(format!("{} (run `cargo build --workspace`)", binary().display())),
        }
    }
}

/// Returns from a test if this machine lacks what it needs: `needs!(Plugins)`.
#[macro_export]
macro_rules! needs {
    ($($need:ident),+) => {
        if $(!$crate::Need::$need.is_met())||+ {
            return;
        }
    };
}

/// A superuser's URL of a server in which tests may create databases.
pub fn postgres_url() -> String {
    server().expect("only for tests that need Postgres").to_owned()
}

/// The server of `TIDEMILL_TEST_POSTGRES`, or one that ends with this process.
fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<(String, Option<Postgres>)>> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        if let Ok(url) = std::env::var("TIDEMILL_TEST_POSTGRES") {
            return Some((url, None));
        }
        program("initdb")?;
        let server = block_on(Postgres::start());
        Some((server.url(), Some(server)))
    });
    server.as_ref().map(|(url, _)| url.as_str())
}

/// The folder of built plugins: `TIDEMILL_TEST_PLUGINS`, or the workspace's own.
pub fn plugins() -> PathBuf {
    std::env::var_os("TIDEMILL_TEST_PLUGINS")
        .map_or_else(|| workspace().join("target/plugins"), PathBuf::from)
}

/// The built binary: `TIDEMILL_TEST_BIN`, or the workspace's own.
pub fn binary() -> PathBuf {
    std::env::var_os("TIDEMILL_TEST_BIN")
        .map_or_else(|| workspace().join("target/debug/tidemill"), PathBuf::from)
}

fn workspace() -> &'static Path {
    // This crate is in tests/support.
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}
