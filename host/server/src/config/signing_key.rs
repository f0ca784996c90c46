//! Signatures of webhooks, after the Standard Webhooks specification: a receiver with the key can verify the
//! sender of a request, its time, and that it was not changed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::secret::Secret;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

/// Source: the specification's "Signature scheme", symmetric.
const PREFIX: &str = "whsec_";
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

#[derive(Clone)]
pub struct SigningKey(Hmac<Sha256>);

impl SigningKey {
    /// Returns the reason if the secret is not a valid key.
    pub fn new(secret: &Secret) -> Result<SigningKey, String> {
        let text = secret.reveal();
        let key = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text));
        let key = key.map_err(|_| "it is not base64".to_owned())?;
        if !KEY_BYTES.contains(&key.len()) {
            let (least, most) = KEY_BYTES.into_inner();
            return Err(format!("it has {} bytes, a key has {least} to {most}", key.len()));
        }
        Hmac::new_from_slice(&key).map(SigningKey).map_err(|e| e.to_string())
    }

    /// The three headers of a request.
    pub fn headers(&self, id: &str, at: Timestamp, body: &str) -> [(&'static str, String); 3] {
        let at = at.as_second().to_string();
        let mut signed = self.0.clone();
        signed.update(format!("{id}.{at}.{body}").as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(signed.finalize().into_bytes()));
        [("webhook-id", id.to_owned()), ("webhook-timestamp", at), ("webhook-signature", signature)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<SigningKey, String> {
        SigningKey::new(&Secret::new(text).unwrap())
    }

    /// The test vector of the specification's own libraries; `openssl dgst -mac HMAC`
    /// returns the same signature.
    #[test]
    fn signs_as_other_libraries_do() {
        let at = Timestamp::from_second(1_614_265_330).unwrap();
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let headers = key.headers("msg_p5jXN8AQM9LWM0D4loKWxJek", at, r#"{"test": 2432232314}"#);
        let expected = [
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ];
        assert_eq!(headers.each_ref().map(|(name, value)| (*name, value.as_str())), expected);
    }

    #[test]
    fn a_key_is_24_to_64_bytes_of_base64() {
        assert!(key("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").is_ok());
        assert_eq!(key("whsec_%").err().unwrap(), "it is not base64");
        assert_eq!(key("whsec_c2hvcnQ=").err().unwrap(), "it has 5 bytes, a key has 24 to 64");
        assert_eq!(key(&STANDARD.encode([7; 65])).err().unwrap(), "it has 65 bytes, a key has 24 to 64");
    }
}
