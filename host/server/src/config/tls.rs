//! `[tls]`: whom HTTPS believes, in requests of plugins and in webhooks.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::reader::Section;
use super::text;

/// What is trusted in place of the built-in roots; nothing keeps those.
#[derive(Debug, Clone, Default)]
pub struct Trusted {
    pub ca_file: Option<PathBuf>,
    pub certificates: Vec<CertificateDer<'static>>,
}

pub fn trusted(mut section: Section<'_>, folder: &Path) -> Trusted {
    let found = section.text("ca_file");
    let mut trusted = Trusted::default();
    if let Some(found) = &found {
        let file = text::clean(&folder.join(&found.value));
        match read(&file) {
            Ok(certificates) => trusted = Trusted { ca_file: Some(file), certificates },
            Err(what) => {
                let remedy = "name a PEM file, like \"/etc/ssl/certs/ca-certificates.crt\"";
                section.blame_found(found, what, remedy);
            }
        }
    }
    section.finish();
    trusted
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
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
    Ok(certificates)
}
