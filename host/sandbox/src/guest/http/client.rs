//! HTTP clients, whose connections are reused across attempts.

use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use wasmtime_wasi_http::WasiBody;

use super::resolver::Resolver;

const IDLE_TIME: Duration = Duration::from_secs(30);
const IDLE_PER_HOST_MAX: usize = 8;
/// Longest status line and headers of a response.
const HEAD_BYTES_MAX: usize = 64 << 10;

pub type HttpClient = Client<HttpsConnector<HttpConnector<Resolver>>, WasiBody>;

/// Two clients, because allowed addresses are checked when a connection is opened.
pub struct Clients {
    public: HttpClient,
    private: HttpClient,
}

impl Clients {
    /// Trusts these certificates, or the browsers' roots if the list is empty.
    pub fn new(certificates: &[CertificateDer<'static>]) -> Result<Clients, rustls::Error> {
        let mut roots = RootCertStore::empty();
        if certificates.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        for certificate in certificates {
            roots.add(certificate.clone())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Clients { public: client(tls.clone(), false), private: client(tls, true) })
    }

    pub fn of(&self, private: bool) -> HttpClient {
        if private { self.private.clone() } else { self.public.clone() }
    }
}

fn client(tls: ClientConfig, private: bool) -> HttpClient {
    let mut tcp = HttpConnector::new_with_resolver(Resolver { private });
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
        .http1_max_buf_size(HEAD_BYTES_MAX)
        .build(connector)
}
