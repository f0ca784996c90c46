//! The line between one host and Postgres. It can freeze, deliver a COMMIT late, or drop the answer to a
//! COMMIT that was carried out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Codes of request messages that precede the startup message. The server answers them before the startup.
const REQUESTS: [u32; 2] = [80_877_103, 80_877_104];
/// Every message of this load is shorter; a longer one means that the position in the stream is wrong.
const MESSAGE_BYTES_MAX: u32 = 64 << 20;

pub struct Wire {
    pub address: SocketAddr,
    pub store: Arc<Line>,
    pub business: Arc<Line>,
    frozen: watch::Sender<bool>,
}

/// The connections to one database.
pub struct Line {
    database: String,
    to_cut: AtomicU32,
    cut: AtomicU64,
    hold: watch::Sender<Hold>,
}

/// The state of the one COMMIT that is held back on its way to Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Nothing,
    TheNext,
    Held,
}

impl Line {
    fn new(url: &str) -> Arc<Line> {
        let (_, database) = url.rsplit_once('/').unwrap();
        Arc::new(Line {
            database: database.to_owned(),
            to_cut: AtomicU32::new(0),
            cut: AtomicU64::new(0),
            hold: watch::Sender::new(Hold::Nothing),
        })
    }

    /// Drops the answers to the next `count` COMMITs.
    pub fn cut_commits(&self, count: u32) {
        self.to_cut.store(count, SeqCst);
    }

    /// COMMITs that Postgres carried out and whose answers were dropped.
    pub fn cut(&self) -> u64 {
        self.cut.load(SeqCst)
    }

    /// Holds the next COMMIT back until `let_go`; returns whether one arrived in time.
    pub async fn hold_commit(&self, within: Duration) -> bool {
        self.hold.send_replace(Hold::TheNext);
        let mut hold = self.hold.subscribe();
        let came = timeout(within, hold.wait_for(|hold| *hold == Hold::Held)).await.is_ok();
        if !came {
            self.let_go();
        }
        came
    }

    pub fn let_go(&self) {
        self.hold.send_replace(Hold::Nothing);
    }

    /// Returns when the COMMIT that just arrived may continue.
    async fn pass(&self) {
        let mine = self.hold.send_if_modified(|hold| {
            let mine = *hold == Hold::TheNext;
            if mine {
                *hold = Hold::Held;
            }
            mine
        });
        if mine {
            let _ = self.hold.subscribe().wait_for(|hold| *hold != Hold::Held).await;
        }
    }

    fn take_one(&self) -> bool {
        self.to_cut.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

impl Wire {
    /// Opens a line to the server of these two databases.
    pub async fn lay(store_url: &str, business_url: &str) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (store, business) = (Line::new(store_url), Line::new(business_url));
        let lines = [store.clone(), business.clone()];
        let server = authority(store_url).to_owned();
        let (frozen, ice) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.clone(), lines.clone(), ice.clone()));
            }
        });
        Wire { address, store, business, frozen }
    }

    /// Nothing passes and nothing is refused: messages arrive when the line thaws.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// The URL of a database through this line.
    pub fn url(&self, url: &str) -> String {
        url.replace(authority(url), &self.address.to_string())
    }
}

/// Shows a connection whether its wire is frozen.
type Ice = watch::Receiver<bool>;

async fn thawed(ice: &Ice) {
    let _ = ice.clone().wait_for(|frozen| !frozen).await;
}

/// Host and port.
fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split('/').next().unwrap()
}

/// Runs until one side ends or the line is cut; then both sides are closed.
async fn carry(client: TcpStream, server: String, lines: [Arc<Line>; 2], ice: Ice) -> Option<()> {
    thawed(&ice).await;
    let server = TcpStream::connect(server).await.ok()?;
    client.set_nodelay(true).ok()?;
    server.set_nodelay(true).ok()?;
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut from_client = BufReader::new(from_client);
    let startup = loop {
        let message = first_message(&mut from_client).await?;
        to_server.write_all(&message).await.ok()?;
        if !REQUESTS.contains(&number(&message[4..8])) {
            break message;
        }
        // One byte: whether the server accepts the request.
        to_client.write_all(&[from_server.read_u8().await.ok()?]).await.ok()?;
    };
    let named = |line: &&Arc<Line>| contains(&startup, format!("\0{}\0", line.database).as_bytes());
    let line = lines.iter().find(named)?;
    let muted = AtomicBool::new(false);
    tokio::select! {
        _ = ask(from_client, to_server, line, &muted, &ice) => {}
        _ = answer(from_server, to_client, line, &muted, &ice) => {}
    }
    Some(())
}

/// Passes messages from the host to Postgres, one by one.
async fn ask(
    mut host: BufReader<OwnedReadHalf>,
    mut server: OwnedWriteHalf,
    line: &Line,
    muted: &AtomicBool,
    ice: &Ice,
) -> Option<()> {
    loop {
        let mut message = vec![0; 5];
        host.read_exact(&mut message).await.ok()?;
        read_rest(&mut host, &mut message, 1).await?;
        thawed(ice).await;
        if is_commit(&message) {
            line.pass().await;
            muted.store(line.take_one(), SeqCst);
        }
        server.write_all(&message).await.ok()?;
    }
}

/// Passes data from Postgres to the host. While muted, it drops the data until the transaction ends.
async fn answer(
    mut server: OwnedReadHalf,
    mut host: OwnedWriteHalf,
    line: &Line,
    muted: &AtomicBool,
    ice: &Ice,
) -> Option<()> {
    let mut bytes = vec![0; 32 << 10];
    let mut unheard = Vec::new();
    loop {
        let count = server.read(&mut bytes).await.ok().filter(|count| *count > 0)?;
        thawed(ice).await;
        if !muted.load(SeqCst) {
            host.write_all(&bytes[..count]).await.ok()?;
            continue;
        }
        unheard.extend_from_slice(&bytes[..count]);
        if contains(&unheard, b"COMMIT\0") {
            line.cut.fetch_add(1, SeqCst);
            return None;
        }
        // The commit failed; the host does not receive that answer either.
        if contains(&unheard, b"ROLLBACK\0") {
            return None;
        }
    }
}

/// The first messages have no type letter before their length.
async fn first_message(host: &mut BufReader<OwnedReadHalf>) -> Option<Vec<u8>> {
    let mut message = vec![0; 4];
    host.read_exact(&mut message).await.ok()?;
    read_rest(host, &mut message, 0).await?;
    (message.len() >= 8).then_some(message)
}

/// Reads the rest of a message whose length field is at `offset` and includes itself.
async fn read_rest(host: &mut BufReader<OwnedReadHalf>, message: &mut Vec<u8>, offset: usize) -> Option<()> {
    let length = number(&message[offset..offset + 4]);
    assert!((4..MESSAGE_BYTES_MAX).contains(&length), "a message of {length} bytes");
    let begin = message.len();
    message.resize(offset + length as usize, 0);
    host.read_exact(&mut message[begin..]).await.ok()?;
    Some(())
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}

/// A simple query that commits; the host's driver uses no other form.
fn is_commit(message: &[u8]) -> bool {
    message[0] == b'Q' && message[5..].to_ascii_uppercase().starts_with(b"COMMIT")
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
