//! Programs between a store and its database, or in place of the database: PgBouncer, additional Postgres
//! servers, and a relay with an exchangeable target. All end with the test process, also if it is killed.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};

/// Runs a program until stdin closes, so that it ends even if the test is killed, then removes its folder.
const KEEPER: &str = r#"
signal=$1; folder=$2; shift 2
exec 3<&0
"$@" 3<&- </dev/null &
program=$!
(read -r _ <&3; kill -$signal $program 2>/dev/null) &
wait
rm -rf "$folder"
"#;
const START_LIMIT: Duration = Duration::from_secs(60);

/// Whether the tests run as root, as in a container.
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().unwrap().stdout == b"0\n"
}

/// Neither Postgres nor PgBouncer runs as root: root starts them as Debian's user `postgres`.
fn command(program: impl AsRef<Path>) -> Command {
    if !is_root() {
        return Command::new(program.as_ref());
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]).arg(program.as_ref());
    command
}

fn output(command: &mut Command) -> String {
    let output = command.current_dir("/").output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A temporary folder that belongs to the user that runs the program.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        Folder(output(command("mktemp").args(["-d", "-t", "tidemill-store-XXXXXX"])).trim().into())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Kept {
    keeper: Child,
    /// Removed after the program has ended.
    folder: Folder,
}

impl Kept {
    fn start(signal: &str, program: &Path, args: &[&str], folder: Folder) -> Kept {
        let mut keeper = command("sh");
        keeper.args(["-c", KEEPER, "keeper", signal]).arg(&folder.0).arg(program).args(args).current_dir("/");
        // A separate process group, so that Ctrl-C reaches the test first and the keeper removes the folder.
        keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Kept { keeper: keeper.spawn().unwrap(), folder }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

async fn wait_for(url: &str) {
    let start = Instant::now();
    while let Err(error) = PgConnection::connect(url).await {
        assert!(start.elapsed() < START_LIMIT, "{url}: {error}");
        tokio::task::yield_now().await;
    }
}

/// A PgBouncer in front of the server of a URL.
pub struct PgBouncer {
    port: u16,
    _kept: Kept,
}

impl PgBouncer {
    /// `settings` are lines of its configuration.
    pub async fn start(server: &str, settings: &[&str]) -> PgBouncer {
        let folder = Folder::new();
        let (port, target) = (free_port(), port_of(server));
        let mut text = format!(
            "[databases]\n* = host=127.0.0.1 port={target} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = any\nunix_socket_dir =\ndefault_pool_size = 60\n"
        );
        for setting in settings {
            writeln!(text, "{setting}").unwrap();
        }
        let file = folder.0.join("pgbouncer.ini");
        std::fs::write(&file, text).unwrap();
        output(Command::new("chmod").args(["-R", "a+rX"]).arg(&folder.0));
        let pgbouncer = program("pgbouncer").expect("only for tests that need PgBouncer");
        let kept = Kept::start("KILL", &pgbouncer, &["-q", file.to_str().unwrap()], folder);
        let bouncer = PgBouncer { port, _kept: kept };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < START_LIMIT, "PgBouncer does not listen");
            tokio::task::yield_now().await;
        }
        bouncer
    }

    /// The URL of the same database through this PgBouncer.
    pub fn url(&self, direct: &str) -> String {
        at_port(direct, self.port)
    }
}

fn port_of(url: &str) -> String {
    let (_, rest) = url.rsplit_once(':').unwrap();
    rest.split('/').next().unwrap().to_owned()
}

pub fn at_port(url: &str, port: u16) -> String {
    let (before, rest) = url.rsplit_once(':').unwrap();
    let (_, path) = rest.split_once('/').unwrap();
    format!("{before}:{port}/{path}")
}

/// A separate server with an empty database `postgres`.
pub struct Postgres {
    port: u16,
    kept: Kept,
}

impl Postgres {
    pub async fn start() -> Postgres {
        Postgres::start_with(&[]).await
    }

    /// Starts a server with these variables (`NAME=VALUE`) in its environment.
    pub async fn start_with(environment: &[String]) -> Postgres {
        let folder = Folder::new();
        let data = folder.0.join("data");
        let mut initdb = postgres_command("initdb");
        initdb.args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "--encoding",
            "UTF8",
            "--locale",
            "C.UTF-8",
            "--no-sync",
            "-D",
        ]);
        output(initdb.arg(&data));
        ask_one_for_a_password(&data);
        Postgres::serve(folder, environment).await
    }

    /// Starts a standby that follows this server.
    pub async fn standby(&self) -> Postgres {
        let folder = Folder::new();
        let mut backup = postgres_command("pg_basebackup");
        backup.args(["-d", &self.url(), "--checkpoint=fast", "--no-sync", "--write-recovery-conf", "-D"]);
        output(backup.arg(folder.0.join("data")));
        Postgres::serve(folder, &[]).await
    }

    async fn serve(folder: Folder, environment: &[String]) -> Postgres {
        let port = free_port();
        let (data, port_setting) = (folder.0.join("data"), format!("port={port}"));
        let args = ["-D", data.to_str().unwrap(), "-c", &port_setting, "-c", "listen_addresses=127.0.0.1"];
        let more = ["-c", "unix_socket_directories=", "-c", "fsync=off", "-c", "log_min_messages=panic"];
        let more = more.into_iter().chain(["-c", "max_connections=300"]);
        let server = program("postgres").expect("only for tests that need Postgres");
        let environment = environment.iter().map(String::as_str);
        let words: Vec<&str> = environment.chain(server.to_str()).chain(args).chain(more).collect();
        let kept = Kept::start("QUIT", Path::new("/usr/bin/env"), &words, folder);
        let server = Postgres { port, kept };
        wait_for(&server.url()).await;
        server
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends all its connections and then itself, as an operator would.
    pub fn stop_fast(&self) {
        let mut stop = postgres_command("pg_ctl");
        output(stop.args(["stop", "-m", "fast", "-D"]).arg(self.kept.folder.0.join("data")));
    }
}

/// Requires a password from one user; all other users of this machine are trusted.
fn ask_one_for_a_password(data: &Path) {
    let rules = data.join("pg_hba.conf");
    let trusting = std::fs::read_to_string(&rules).unwrap();
    let asking = format!("host all asked_for_password 127.0.0.1/32 scram-sha-256\n{trusting}");
    std::fs::write(&rules, asking).unwrap();
}

/// The file of a program: Debian's newest Postgres comes before the folders of `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let debian = Path::new("/usr/lib/postgresql");
    let versions = std::fs::read_dir(debian).into_iter().flatten().filter_map(Result::ok);
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max();
    let newest = newest.map(|version| debian.join(version.to_string()).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = newest.into_iter().chain(std::env::split_paths(&path)).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn postgres_command(name: &str) -> Command {
    command(program(name).expect("only for tests that need Postgres"))
}

/// Relays connections to a server that can be exchanged. Existing connections keep their server.
pub struct Relay {
    port: u16,
    target: Arc<Mutex<(u16, Arc<AtomicBool>)>>,
}

impl Relay {
    pub fn to(target: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = Arc::new(Mutex::new((target, Arc::new(AtomicBool::new(false)))));
        let present = target.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (target, frozen) = present.lock().unwrap().clone();
                if let Ok(server) = TcpStream::connect(("127.0.0.1", target)) {
                    carry(&client, &server, &frozen);
                    carry(&server, &client, &frozen);
                }
            }
        });
        Relay { port, target }
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Sends new connections to `target`.
    pub fn lead_to(&self, target: u16) {
        *self.target.lock().unwrap() = (target, Arc::new(AtomicBool::new(false)));
    }

    /// The same, and freezes all existing connections.
    pub fn freeze_and_lead_to(&self, target: u16) {
        self.target.lock().unwrap().1.store(true, Ordering::Release);
        self.lead_to(target);
    }
}

fn carry(from: &TcpStream, to: &TcpStream, frozen: &Arc<AtomicBool>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    let frozen = frozen.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if frozen.load(Ordering::Acquire) {
                continue;
            }
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        if !frozen.load(Ordering::Acquire) {
            let _ = to.shutdown(Shutdown::Write);
        }
    });
}
