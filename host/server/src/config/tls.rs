//! `[tls]`: the certificates that TLS trusts, in requests of plugins and in sinks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::reader::Section;
use super::text;

/// Certificates that are trusted instead of the built-in roots; if empty, the built-in roots are trusted.
#[derive(Debug, Clone, Default)]
pub struct Trusted {
    pub ca_file: Option<PathBuf>,
    pub certificates: Vec<CertificateDer<'static>>,
    /// The same certificates in the file's original form.
    pub pem: Option<Vec<u8>>,
}

impl Trusted {
    /// The TLS settings of a client that trusts these certificates, or else the built-in roots.
    pub fn client(&self) -> Result<ClientConfig, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.certificates.iter().cloned());
        if self.certificates.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(tls.with_root_certificates(roots).with_no_client_auth())
    }
}

pub fn trusted(mut section: Section<'_>) -> Trusted {
    let found = section.text("ca_file");
    let mut trusted = Trusted::default();
    if let Some(found) = &found {
        let file = text::clean(&section.folder.join(&found.value));
        match read(&file) {
            Ok((certificates, pem)) => {
                trusted = Trusted { ca_file: Some(file), certificates, pem: Some(pem) };
            }
            Err(what) => {
                let remedy = "name a PEM file, like \"/etc/ssl/certs/ca-certificates.crt\"";
                section.blame_found(found, what, remedy);
            }
        }
    }
    section.finish();
    trusted
}

fn read(file: &Path) -> Result<(Vec<CertificateDer<'static>>, Vec<u8>), String> {
    let shown = file.display();
    let pem = std::fs::read(file).map_err(|e| format!("{shown} cannot be read: {e}"))?;
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|e| format!("{shown} is not valid PEM: {e}"))?;
    if certificates.is_empty() {
        return Err(format!("{shown} holds no certificate"));
    }
    for (number, certificate) in (1..).zip(&certificates) {
        let mut roots = RootCertStore::empty();
        let added = roots.add(certificate.clone());
        added.map_err(|e| format!("certificate {number} in {shown} is not valid: {e}"))?;
    }
    Ok((certificates, pem))
}
