//! Secrets that the host adds to requests and connections. They are never displayed.

use std::fmt;
use std::sync::Arc;

use crate::origin::Origin;

pub const SECRET_BYTES_MAX: usize = 16 << 10;
/// Placeholder for the secret in the template of a header.
pub const PLACE: &str = "{}";

#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// The error says why the text cannot be a secret.
    pub fn new(text: &str) -> Result<Secret, String> {
        match text.len() {
            0 => Err("it is empty".to_owned()),
            bytes if bytes > SECRET_BYTES_MAX => {
                Err(format!("it has {bytes} bytes, {SECRET_BYTES_MAX} are allowed"))
            }
            _ => Ok(Secret(text.into())),
        }
    }

    /// For callers that pass the text to a service, and nowhere else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Overwrites each occurrence of the secret in `bytes`. The number of bytes stays the same, so a length
    /// that was sent before remains right.
    pub fn mask(&self, bytes: &mut [u8]) {
        let secret = self.0.as_bytes();
        let mut at = 0;
        while let Some(window) = bytes.get_mut(at..at + secret.len()) {
            if window == secret {
                window.fill(b'*');
                at += secret.len();
            } else {
                at += 1;
            }
        }
    }

    /// Number of bytes at the end of `bytes` that may be the beginning of the secret.
    fn begun(&self, bytes: &[u8]) -> usize {
        let longest = bytes.len().min(self.0.len().saturating_sub(1));
        let begins = |length: &usize| self.0.as_bytes().starts_with(&bytes[bytes.len() - length..]);
        (1..=longest).rev().find(begins).unwrap_or(0)
    }
}

/// Masks these secrets in a stream.
#[derive(Debug, Default)]
pub struct Mask {
    secrets: Vec<Secret>,
    /// The end of the bytes so far, while it may be the beginning of a secret.
    kept: Vec<u8>,
}

impl Mask {
    pub fn new(secrets: Vec<Secret>) -> Mask {
        Mask { secrets, kept: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// Masks a complete text, like a header's value.
    pub fn whole(&self, bytes: &mut [u8]) {
        self.secrets.iter().for_each(|secret| secret.mask(bytes));
    }

    /// The readable bytes of a stream after this part of it.
    pub fn part(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.kept);
        all.extend_from_slice(bytes);
        self.whole(&mut all);
        let kept = self.secrets.iter().map(|secret| secret.begun(&all)).max().unwrap_or(0);
        self.kept = all.split_off(all.len().saturating_sub(kept));
        all
    }

    /// The remaining bytes when the stream ends.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }
}

/// Keeps the secret out of logs, errors and dumps of structs.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

/// A secret that the host adds to a job's requests to one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretHeader {
    /// The secret's name.
    pub name: String,
    pub to: Origin,
    /// In lower case.
    pub header: String,
    /// The header's value, with [`PLACE`] for the secret.
    pub form: String,
    pub secret: Secret,
}

impl SecretHeader {
    pub fn value(&self) -> Secret {
        Secret(self.form.replace(PLACE, self.secret.reveal()).into())
    }
}
