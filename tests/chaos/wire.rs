//! The line between one host and Postgres, which can freeze, or break where it hurts most: a COMMIT that arrives late, or
//! was carried out and its answer does not arrive.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Codes of the first messages of a connection, which are not its startup: the server answers, and the startup follows.
const REQUESTS: [u32; 2] = [80_877_103, 80_877_104];
/// No message of this load is as long; a longer one says that we lost our place in the stream.
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

/// One COMMIT on its way to Postgres.
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

    /// The answers to the next so many COMMITs do not arrive.
    pub fn cut_commits(&self, count: u32) {
        self.to_cut.store(count, SeqCst);
    }

    /// COMMITs that Postgres carried out and their sender never heard of.
    pub fn cut(&self) -> u64 {
        self.cut.load(SeqCst)
    }

    /// The next COMMIT is kept back until it is let go; says whether one came within a time.
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

    /// Returns when the COMMIT that just came may go on.
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
    /// To the server of these two databases.
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

    /// Nothing gets through, and nothing is refused: what was sent arrives when the line thaws.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// The URL of a database as seen from this end.
    pub fn url(&self, url: &str) -> String {
        url.replace(authority(url), &self.address.to_string())
    }
}

/// Whether a wire is frozen, as its connections see it.
type Ice = watch::Receiver<bool>;

async fn thawed(ice: &Ice) {
    let _ = ice.clone().wait_for(|frozen| !frozen).await;
}

/// Host and port.
fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once('@').unwrap();
    rest.split('/').next().unwrap()
}

/// Until one side ends, or the line is cut: then both are closed.
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
        // One byte: whether it will.
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

/// From the host to Postgres, message by message.
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

/// From Postgres to the host. Muted, it only listens for the word that the transaction is over.
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
        // It could not be committed, and the host does not hear that either.
        if contains(&unheard, b"ROLLBACK\0") {
            return None;
        }
    }
}

/// The first messages have no letter before their length.
async fn first_message(host: &mut BufReader<OwnedReadHalf>) -> Option<Vec<u8>> {
    let mut message = vec![0; 4];
    host.read_exact(&mut message).await.ok()?;
    read_rest(host, &mut message, 0).await?;
    (message.len() >= 8).then_some(message)
}

/// What follows a length, which counts itself and stands at an offset.
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

/// A simple query that commits; the driver that the host uses sends no other.
fn is_commit(message: &[u8]) -> bool {
    message[0] == b'Q' && message[5..].to_ascii_uppercase().starts_with(b"COMMIT")
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
