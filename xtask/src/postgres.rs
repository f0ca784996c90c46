//! A private Postgres for tests: Debian's binaries, a folder in /tmp, a free port on the loopback.
//! It runs as long as this process holds one end of a pipe, so it stops even if this process is killed.

use std::ffi::OsStr;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sh;

const DEBIAN_BINARIES: &str = "/usr/lib/postgresql";
const START_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// Kill tests rely on committed data, so all durability settings of a real server stay on.
const SETTINGS: [&str; 7] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=300",
    "fsync=on",
    "synchronous_commit=on",
    // So that a check can read when a row was committed.
    "track_commit_timestamp=on",
    "log_min_messages=warning",
];

/// Runs the server given as arguments after `$1`, its folder. When the pipe on stdin closes, the server is
/// stopped at once (its data is not needed) and the folder is removed.
const KEEPER: &str = r#"
folder=$1; shift
exec 3<&0
"$@" 3<&- </dev/null >"$folder/log" 2>&1 &
server=$!
(read -r _ <&3; kill -QUIT $server) &
reader=$!
wait $server || tail -n 20 "$folder/log" >&2
kill $reader 2>/dev/null
rm -rf "$folder"
"#;

/// A running server; dropping it stops it and removes its folder.
pub struct Postgres {
    keeper: Child,
    port: u16,
    psql: PathBuf,
    databases: AtomicU32,
}

impl Postgres {
    pub fn start() -> Result<Self> {
        let binaries = match newest_binaries(Path::new(DEBIAN_BINARIES)) {
            Some(found) => found,
            None => install()?,
        };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let as_root = sh::is_root()?;
        let mut mktemp = command(as_root, "mktemp");
        let folder = sh::output(mktemp.args(["-d", "-t", "tidemill-postgres-XXXXXX"]))?;
        let folder = Path::new(folder.trim());
        let data = folder.join("data");
        let mut initdb = command(as_root, binaries.join("initdb"));
        initdb.args(["-A", "trust", "-U", "postgres", "--encoding", "UTF8", "--locale", "C.UTF-8"]);
        initdb.args(["--no-sync", "-D"]).arg(&data).current_dir(folder);
        sh::output(&mut initdb).inspect_err(|_| remove(folder))?;
        ask_one_for_a_password(&data).inspect_err(|_| remove(folder))?;

        let mut keeper = command(as_root, "sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(folder).arg(binaries.join("postgres"));
        keeper.arg("-D").arg(&data).args(["-c", &format!("port={port}")]);
        keeper.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        // A separate process group, so that Ctrl-C reaches only the tests and the server ends after them.
        keeper.stdin(Stdio::piped()).current_dir(folder).process_group(0);
        let keeper = keeper.spawn().context("failed to start `sh`").inspect_err(|_| remove(folder))?;
        let psql = binaries.join("psql");
        let mut server = Self { keeper, port, psql, databases: AtomicU32::new(0) };
        server.wait_until_it_answers()?;
        Ok(server)
    }

    /// A superuser's URL.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Removes all databases that were created since the start: the vacuum of old ones would disturb the next
    /// measurement. Then writes everything to disk.
    pub fn clear(&self) -> Result<()> {
        let created = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'";
        for name in self.query(&self.url(), created)?.lines() {
            self.query(&self.url(), &format!("DROP DATABASE \"{name}\" WITH (FORCE)"))?;
        }
        self.query(&self.url(), "CHECKPOINT").map(|_| ())
    }

    /// Creates an empty database, the only one, and returns its URL.
    pub fn fresh_database(&self) -> Result<String> {
        self.clear()?;
        let name = format!("fresh_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.query(&self.url(), &format!("CREATE DATABASE {name}"))?;
        Ok(format!("postgres://postgres@127.0.0.1:{}/{name}", self.port))
    }

    /// The result's rows as lines, with `|` between columns.
    pub fn query(&self, database: &str, sql: &str) -> Result<String> {
        sh::output(Command::new(&self.psql).args([database, "-qXAtc", sql]))
    }

    /// The process of the server; its other processes are children of this one.
    pub fn process_id(&self) -> Result<u32> {
        let file = self.query(&self.url(), "SELECT pg_read_file('postmaster.pid')")?;
        let first = file.lines().next().context("postmaster.pid is empty")?;
        first.trim().parse().context("postmaster.pid has no number")
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let start = Instant::now();
        while start.elapsed() < START_LIMIT {
            if let Some(status) = self.keeper.try_wait()? {
                bail!("Postgres ended while it started ({status}); its log is above");
            }
            let mut ask = Command::new(&self.psql);
            ask.args([&self.url(), "-qXAtc", "select 1"]);
            if ask.stdout(Stdio::null()).stderr(Stdio::null()).status()?.success() {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        bail!("Postgres gave no answer at {} within {START_LIMIT:?}", self.url())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        if let Err(error) = self.keeper.wait() {
            eprintln!("warning: could not wait for Postgres to stop: {error}");
        }
    }
}

/// `cargo xtask postgres`: runs until stdin closes; Ctrl-C ends this process and with it the server.
pub fn foreground() -> Result<()> {
    let server = Postgres::start()?;
    println!("TIDEMILL_TEST_POSTGRES={}", server.url());
    eprintln!("Postgres runs until Ctrl-C, or until stdin closes");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Requires a password from one user, for tests; all other users of this machine are trusted.
fn ask_one_for_a_password(data: &Path) -> Result<()> {
    let rules = data.join("pg_hba.conf");
    let trusting = std::fs::read_to_string(&rules).context("cannot read pg_hba.conf")?;
    let asking = format!("host all asked_for_password 127.0.0.1/32 scram-sha-256\n{trusting}");
    std::fs::write(&rules, asking).context("cannot write pg_hba.conf")
}

/// The newest version below `root` that has a server.
fn newest_binaries(root: &Path) -> Option<PathBuf> {
    let versions = std::fs::read_dir(root).ok()?.filter_map(Result::ok);
    let with_server = versions.filter_map(|entry| {
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let binaries = entry.path().join("bin");
        binaries.join("initdb").exists().then_some((version, binaries))
    });
    with_server.max().map(|(_, binaries)| binaries)
}

/// The package starts its own cluster on port 5432; it is not used.
fn install() -> Result<PathBuf> {
    eprintln!("no Postgres below {DEBIAN_BINARIES}: installing Debian's");
    sh::install("postgresql")?;
    newest_binaries(Path::new(DEBIAN_BINARIES))
        .with_context(|| format!("apt-get installed no Postgres below {DEBIAN_BINARIES}"))
}

/// Postgres refuses to run as root, so root starts it as Debian's user `postgres`.
fn command(as_root: bool, program: impl AsRef<OsStr>) -> Command {
    if !as_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program);
    command
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        eprintln!("warning: {} stays behind: {error}", folder.display());
    }
}
