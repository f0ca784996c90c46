//! Real NATS and Redis servers, from Debian's packages. Each has its own port and folder, can be killed and
//! restarted, and is killed when dropped.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_nats::jetstream;
use redis::AsyncConnectionConfig;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::process::free_port;
use super::wait::until;

/// For the test's own requests: a restarted server needs a moment.
const PATIENCE: Duration = Duration::from_secs(30);

/// The name of the JetStream stream.
const STREAM: &str = "EVENTS";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    Nats,
    Redis,
}

/// A message that arrived, in the same form for both servers.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The subject, or the stream.
    pub place: String,
    /// Values by name: id, topic, key, job, created_at.
    pub fields: BTreeMap<String, String>,
    pub payload: serde_json::Value,
}

pub struct Broker {
    sort: Sort,
    port: u16,
    dir: TempDir,
    words: Vec<String>,
    guard: Vec<String>,
    child: Option<Child>,
}

impl Broker {
    pub async fn start_new(sort: Sort) -> Broker {
        Broker::start_with(sort, &[]).await
    }

    pub async fn start_with(sort: Sort, more: &[&str]) -> Broker {
        let (port, dir) = (free_port(), tempfile::tempdir().unwrap());
        let folder = dir.path().display();
        let words = match sort {
            Sort::Nats => format!("nats-server -a 127.0.0.1 -p {port} -js -sd {folder}"),
            // With these options, Redis acknowledges a message only after it is on disk.
            Sort::Redis => format!(
                "redis-server --bind 127.0.0.1 --port {port} --dir {folder} --appendonly yes --appendfsync always"
            ),
        };
        let words = words.split(' ').chain(more.iter().copied()).map(str::to_owned).collect();
        let mut broker = Broker { sort, port, dir, words, guard: Vec::new(), child: None };
        broker.start().await;
        broker
    }

    /// Restarts with the same data. With a certificate and a password, the server then accepts only TLS
    /// connections of the user `tide`. The certificate is a file for `localhost`, with its key beside it.
    pub async fn guard(&mut self, guard: Option<(&Path, &str)>) {
        self.kill9().await;
        self.guard = Vec::new();
        if let Some((certificate, password)) = guard {
            let key = certificate.with_extension("key").display().to_string();
            let (certificate, port) = (certificate.display().to_string(), self.port.to_string());
            let words = match self.sort {
                Sort::Nats => {
                    format!("--tls --tlscert {certificate} --tlskey {key} --user tide --pass {password}")
                }
                Sort::Redis => format!(
                    "--port 0 --tls-port {port} --tls-cert-file {certificate} --tls-key-file {key} \
                     --tls-ca-cert-file {certificate} --tls-auth-clients no \
                     --user tide on >{password} ~* +@all --user default off"
                ),
            };
            self.guard = words.split(' ').map(str::to_owned).collect();
        }
        self.start().await;
    }

    pub fn address(&self) -> String {
        let scheme = if self.sort == Sort::Nats { "nats" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Makes JetStream keep messages to these subjects. Redis creates a stream with the first message.
    pub async fn make_stream(&self, subjects: &[&str]) {
        if self.sort == Sort::Nats {
            let subjects = subjects.iter().map(|subject| (*subject).to_owned()).collect();
            let config =
                jetstream::stream::Config { name: STREAM.to_owned(), subjects, ..Default::default() };
            jetstream(self).await.create_stream(config).await.unwrap();
        }
    }

    /// All messages that JetStream keeps, or those that Redis keeps in `stream`.
    pub async fn arrived(&self, stream: &str) -> Vec<Arrived> {
        match self.sort {
            Sort::Nats => messages(self).await,
            Sort::Redis => entries(self, stream).await,
        }
    }

    pub async fn redis_connection(&self) -> redis::aio::MultiplexedConnection {
        let patient = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
        let client = redis::Client::open(self.address()).unwrap();
        client.get_multiplexed_async_connection_with_config(&patient).await.unwrap()
    }

    /// Starts on the same port, with the same data.
    pub async fn start(&mut self) {
        let missing = "these tests need nats-server and redis-server: run `cargo xtask test`, or install Debian's packages";
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(&self.words)
            .args(&self.guard)
            // Debian installs servers in a folder that is not in every user's PATH.
            .env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect(missing);
        let child = self.child.insert(child);
        until("the server listens", async || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "{missing}: {:?} ended with {ended:?}", self.words);
            TcpStream::connect(("127.0.0.1", self.port)).await.is_ok()
        })
        .await;
    }

    pub async fn kill9(&mut self) {
        self.child.take().expect("it runs").kill().await.unwrap();
    }

    /// After STOP, the server accepts connections and bytes, but does not answer. After CONT, it continues.
    pub async fn signal(&self, signal: &str) {
        let id = self.child.as_ref().and_then(Child::id).expect("it runs").to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &id]).status().await.unwrap();
        assert!(sent.success());
    }
}

async fn jetstream(broker: &Broker) -> jetstream::Context {
    let client = async_nats::connect(format!("nats://127.0.0.1:{}", broker.port)).await.unwrap();
    jetstream::new(client)
}

/// All messages of JetStream's stream [`STREAM`], oldest first.
async fn messages(broker: &Broker) -> Vec<Arrived> {
    let stream = jetstream(broker).await.get_stream(STREAM).await.unwrap();
    let mut all = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let text = |name: &str| message.headers.get(name).unwrap().as_str().to_owned();
        let headers = [
            ("id", "Nats-Msg-Id"),
            ("topic", "Tidemill-Topic"),
            ("key", "Tidemill-Key"),
            ("job", "Tidemill-Job"),
            ("created_at", "Tidemill-Created-At"),
        ];
        assert_eq!(message.headers.len(), headers.len(), "{:?}", message.headers);
        let fields = headers.into_iter().map(|(field, name)| (field.to_owned(), text(name))).collect();
        let payload = serde_json::from_slice(&message.payload).unwrap();
        all.push(Arrived { place: message.subject.to_string(), fields, payload });
    }
    all
}

/// All entries of one Redis stream, oldest first.
async fn entries(broker: &Broker, stream: &str) -> Vec<Arrived> {
    let mut connection = broker.redis_connection().await;
    let range: Vec<(String, BTreeMap<String, String>)> = loop {
        match redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query_async(&mut connection).await {
            // Redis listens before it has loaded its data.
            Err(error) if error.code() == Some("LOADING") => tokio::task::yield_now().await,
            range => break range.unwrap(),
        }
    };
    let arrived = |(_, mut fields): (String, BTreeMap<String, String>)| {
        let payload = serde_json::from_str(&fields.remove("payload").unwrap()).unwrap();
        Arrived { place: stream.to_owned(), fields, payload }
    };
    range.into_iter().map(arrived).collect()
}
