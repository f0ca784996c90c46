//! A proxy between a host and a database that can cut and restore the connection.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    Passes,
    /// All connections are cut, and new ones refused.
    Cut,
    /// Nothing passes, and nothing is refused.
    Frozen,
}

pub struct Proxy {
    pub address: SocketAddr,
    traffic: watch::Sender<Traffic>,
}

impl Proxy {
    pub async fn to(target: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (traffic, state) = watch::channel(Traffic::Passes);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, target.clone(), state.clone()));
            }
        });
        Proxy { address, traffic }
    }

    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }

    pub fn set_up(&self, up: bool) {
        self.set(if up { Traffic::Passes } else { Traffic::Cut });
    }
}

async fn carry(mut client: TcpStream, target: String, mut traffic: watch::Receiver<Traffic>) {
    if *traffic.borrow() == Traffic::Cut {
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let copy = copy_bidirectional(&mut client, &mut server);
    tokio::pin!(copy);
    loop {
        tokio::select! {
            biased;
            state = traffic.wait_for(|traffic| *traffic != Traffic::Passes) => {
                if state.is_ok_and(|state| *state == Traffic::Cut) {
                    return;
                }
            }
            _ = &mut copy => return,
        }
        let _ = traffic.wait_for(|traffic| *traffic != Traffic::Frozen).await;
    }
}
