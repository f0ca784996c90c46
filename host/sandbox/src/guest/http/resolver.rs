//! Resolves names and checks each address. The connection uses the checked addresses, so a changed DNS answer
//! between check and connection has no effect.

use std::future::Future;
use std::io;
use std::iter::once;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use domain::origin::name_may_mean;
use hyper_util::client::legacy::connect::dns::Name;

use crate::guest::exhausted;

#[derive(Debug, Clone)]
pub struct Resolver {
    /// Whether names may resolve to private addresses.
    pub private: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the name {name} resolves to {address}, which the job may not reach")]
pub struct Prohibited {
    pub name: String,
    pub address: IpAddr,
}

#[derive(Debug, thiserror::Error)]
#[error("the name {0} cannot be resolved")]
pub struct Unresolved(pub String);

impl tower::Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let private = self.private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            // A lack of resources has an error number; every other error concerns the name.
            let found = found.map_err(|error| match exhausted::of(once(&error as _)) {
                Some(_) => error,
                None => io::Error::other(Unresolved(name.to_string())),
            })?;
            checked(name.as_str(), found.collect(), private)
        })
    }
}

/// Refuses the name if any of its addresses is not allowed, so that a guest cannot retry until one is used.
pub fn checked(
    name: &str,
    addresses: Vec<SocketAddr>,
    private: bool,
) -> io::Result<vec::IntoIter<SocketAddr>> {
    if addresses.is_empty() {
        return Err(io::Error::other(Unresolved(name.to_owned())));
    }
    match addresses.iter().find(|address| !name_may_mean(name, address.ip(), private)) {
        Some(bad) => Err(io::Error::other(Prohibited { name: name.to_owned(), address: bad.ip() })),
        None => Ok(addresses.into_iter()),
    }
}
