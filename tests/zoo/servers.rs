//! Malicious servers that a guest can call.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n";

/// Sends an endless answer: repeats the piece, with a pause before each.
pub async fn endless(piece: Vec<u8>, every: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket, piece.clone(), every));
        }
    });
    address
}

async fn answer(mut socket: TcpStream, piece: Vec<u8>, every: Duration) {
    let _ = socket.read(&mut [0; 4096]).await;
    let mut sent = socket.write_all(HEAD).await;
    while sent.is_ok() {
        // tidy: sleep because the server is a slow one
        tokio::time::sleep(every).await;
        sent = socket.write_all(&piece).await;
    }
}
