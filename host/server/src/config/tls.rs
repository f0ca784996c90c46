//! `[tls]`: whom HTTPS believes, in requests of plugins and in webhooks.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::reader::Section;
use super::text;

/// The certificates that are trusted in place of the built-in roots; none keeps those.
pub fn certificates(mut section: Section<'_>, folder: &Path) -> Vec<CertificateDer<'static>> {
    let found = section.text("ca_file");
    let mut certificates = Vec::new();
    if let Some(found) = &found {
        match read(&text::clean(&folder.join(&found.value))) {
            Ok(read) => certificates = read,
            Err(what) => {
                let remedy = "name a PEM file, like \"/etc/ssl/certs/ca-certificates.crt\"";
                section.blame_found(found, what, remedy);
            }
        }
    }
    section.finish();
    certificates
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
