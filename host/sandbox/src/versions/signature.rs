//! Plugin signatures: Ed25519 in minisign's format, over the exact bytes that are compiled. Source of the
//! format: the manual of minisign, "Signature format".

use std::fmt;

use minisign_verify::{Error, PublicKey, Signature};

/// How to treat a file without a trusted signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// Signatures are not checked.
    #[default]
    Off,
    /// The file is loaded, with a warning.
    Warn,
    /// The file is rejected.
    Required,
}

/// The trusted keys, and the policy.
#[derive(Debug, Clone, Default)]
pub struct Signatures {
    pub policy: Policy,
    pub keys: Vec<Key>,
}

/// The second line of a file that `minisign -G` made, which begins with `RW`.
#[derive(Clone)]
pub struct Key {
    text: String,
    key: PublicKey,
}

impl Key {
    pub fn parse(text: &str) -> Result<Key, String> {
        let key = PublicKey::from_base64(text).map_err(|e| e.to_string())?;
        Ok(Key { text: text.to_owned(), key })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Signatures {
    /// Why these bytes are not trusted, if so. `signature` is the text of the signature file.
    pub fn refuse(&self, bytes: &[u8], signature: Option<&str>) -> Option<String> {
        if self.policy == Policy::Off {
            return None;
        }
        let Some(text) = signature else {
            return Some(
                "it is not signed: put its signature (minisign -S) beside it, as NAME.wasm.minisig"
                    .to_owned(),
            );
        };
        let signature = match Signature::decode(text) {
            Ok(signature) => signature,
            Err(e) => return Some(format!("its signature is not one of minisign's: {e}")),
        };
        let verified: Vec<_> = self.keys.iter().map(|key| key.key.verify(bytes, &signature, false)).collect();
        if verified.iter().any(Result::is_ok) {
            return None;
        }
        let by_a_stranger = verified.iter().all(|result| matches!(result, Err(Error::UnexpectedKeyId)));
        Some(match by_a_stranger {
            true => "it is signed by a key that is not in plugins.keys".to_owned(),
            false => "its signature is not of these bytes: sign the file again".to_owned(),
        })
    }
}
