//! Private brokers on the loopback, from Debian's packages: a NATS server with JetStream, and a Redis. Requests use
//! their text protocols.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::served::Folder;
use crate::sh;

/// Debian installs servers in a folder that is not in every user's PATH.
const SERVERS: &str = "/usr/sbin";
const START_TIME_MAX: Duration = Duration::from_secs(30);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(25);
/// The JetStream stream.
const STREAM: &str = "EVENTS";

/// A running server; killed when dropped.
struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// `command` gets the address and a folder of its own.
    fn start(
        package: &str,
        folder: &Folder,
        command: impl FnOnce(SocketAddr, &Path) -> Vec<String>,
    ) -> Result<Self> {
        let own = folder.path().join(package);
        std::fs::create_dir_all(&own).with_context(|| format!("failed to make {}", own.display()))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let path = format!("{}:{SERVERS}", std::env::var("PATH").unwrap_or_default());
        let is_there = Command::new(package).arg("--version").env("PATH", &path).output().is_ok();
        if !is_there {
            sh::install(package)?;
        }
        // The server ends with this process, even if that is killed.
        let mut serve = Command::new("setpriv");
        serve.args(["--pdeathsig", "KILL", package]).args(command(address, &own)).env("PATH", &path);
        let log = std::fs::File::create(own.join("log")).context("failed to create the log of a broker")?;
        let process = serve.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let mut server =
            Self { process: process.with_context(|| format!("failed to start {package}"))?, address };
        server.until_it_listens().with_context(|| {
            let log = std::fs::read_to_string(own.join("log")).unwrap_or_default();
            format!("{package} does not run; its log:\n{log}")
        })?;
        Ok(server)
    }

    fn until_it_listens(&mut self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < START_TIME_MAX {
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended with {status}");
            }
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        bail!("nothing listens at {} after {START_TIME_MAX:?}", self.address)
    }

    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let connection = TcpStream::connect(self.address)?;
        connection.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        Ok(BufReader::new(connection))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait());
        if let Err(error) = ended {
            eprintln!("warning: could not end a broker: {error}");
        }
    }
}

pub struct Nats(Server);

impl Nats {
    /// Starts a server with an empty stream of this subject.
    pub fn start(folder: &Folder, subject: &str) -> Result<Self> {
        let nats = Self(Server::start("nats-server", folder, |address, own| {
            let (port, own) = (address.port(), own.display());
            words(&format!("-a 127.0.0.1 -p {port} -js -sd {own}"))
        })?);
        let create = json!({ "name": STREAM, "subjects": [subject], "storage": "file" });
        nats.ask(&format!("$JS.API.STREAM.CREATE.{STREAM}"), &create.to_string())?;
        Ok(nats)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.0.address)
    }

    /// Messages in the stream.
    pub fn messages(&self) -> Result<u64> {
        let info = self.ask(&format!("$JS.API.STREAM.INFO.{STREAM}"), "")?;
        info["state"]["messages"]
            .as_u64()
            .with_context(|| format!("the stream has no number of messages: {info}"))
    }

    fn ask(&self, subject: &str, body: &str) -> Result<Value> {
        let mut connection = self.0.connect()?;
        let request = format!(
            "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB {subject} answer {}\r\n{body}\r\n",
            body.len()
        );
        connection.get_mut().write_all(request.as_bytes())?;
        while !line(&mut connection)?.starts_with("MSG ") {}
        let answer: Value = serde_json::from_str(&line(&mut connection)?)?;
        ensure!(answer["error"].is_null(), "JetStream answers {subject} with {answer}");
        Ok(answer)
    }
}

pub struct Redis(Server);

impl Redis {
    /// Starts a server that writes to its log of commands, and syncs it once a second.
    pub fn start(folder: &Folder) -> Result<Self> {
        let redis = Server::start("redis-server", folder, |address, own| {
            let (port, own) = (address.port(), own.display());
            let mut words = words(&format!(
                "--bind 127.0.0.1 --port {port} --dir {own} --appendonly yes --appendfsync everysec"
            ));
            // No snapshots beside the log.
            words.extend(["--save".to_owned(), String::new()]);
            words
        });
        redis.map(Self)
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.0.address)
    }

    /// Entries of a stream.
    pub fn entries(&self, stream: &str) -> Result<u64> {
        let mut connection = self.0.connect()?;
        connection.get_mut().write_all(format!("XLEN {stream}\r\n").as_bytes())?;
        let answer = line(&mut connection)?;
        let number = answer.strip_prefix(':').and_then(|number| number.parse().ok());
        number.with_context(|| format!("Redis answers XLEN with {answer:?}"))
    }
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// A line without its end.
fn line(from: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    ensure!(
        from.read_line(&mut line).context("no answer of a broker")? > 0,
        "a broker closed the connection"
    );
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
