//! What the host knows and nobody may read: added to a request or a connection at the edge, shown nowhere.

use std::fmt;
use std::sync::Arc;

use crate::origin::Origin;

pub const SECRET_BYTES_MAX: usize = 16 << 10;
/// Where the secret's text stands in the form of a header.
pub const PLACE: &str = "{}";

#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Why a text cannot be one.
    pub fn new(text: &str) -> Result<Secret, String> {
        match text.len() {
            0 => Err("it is empty".to_owned()),
            bytes if bytes > SECRET_BYTES_MAX => {
                Err(format!("it has {bytes} bytes, {SECRET_BYTES_MAX} are allowed"))
            }
            _ => Ok(Secret(text.into())),
        }
    }

    /// For the edge: whoever calls this hands the text to a service and to nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Makes the secret unreadable wherever it stands in `bytes`. Their number stays the same, so a length that was
    /// told before holds.
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

    /// Bytes at the end of `bytes` with which the secret may begin.
    fn begun(&self, bytes: &[u8]) -> usize {
        let longest = bytes.len().min(self.0.len().saturating_sub(1));
        let begins = |length: &usize| self.0.as_bytes().starts_with(&bytes[bytes.len() - length..]);
        (1..=longest).rev().find(begins).unwrap_or(0)
    }
}

/// A stream whose readers may not read these secrets.
#[derive(Debug, Default)]
pub struct Mask {
    secrets: Vec<Secret>,
    /// The end of what came so far, while it may be the beginning of a secret.
    kept: Vec<u8>,
}

impl Mask {
    pub fn new(secrets: Vec<Secret>) -> Mask {
        Mask { secrets, kept: Vec::new() }
    }

    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// A text that stands for itself, like a header's value.
    pub fn whole(&self, bytes: &mut [u8]) {
        self.secrets.iter().for_each(|secret| secret.mask(bytes));
    }

    /// What may be read of a stream after this part of it.
    pub fn part(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.kept);
        all.extend_from_slice(bytes);
        self.whole(&mut all);
        let kept = self.secrets.iter().map(|secret| secret.begun(&all)).max().unwrap_or(0);
        self.kept = all.split_off(all.len().saturating_sub(kept));
        all
    }

    /// What is left when the stream ends.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }
}

/// So that no log, error or dump of a struct can hold it.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

/// A secret that the host puts into a job's requests to one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretHeader {
    /// The secret's name.
    pub name: String,
    pub to: Origin,
    /// In small letters.
    pub header: String,
    /// The header's value, the secret at [`PLACE`].
    pub form: String,
    pub secret: Secret,
}

impl SecretHeader {
    pub fn value(&self) -> Secret {
        Secret(self.form.replace(PLACE, self.secret.reveal()).into())
    }
}
