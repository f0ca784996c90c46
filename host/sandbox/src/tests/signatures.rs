//! Signatures made by minisign's own library, over files in every condition.

use std::io::Cursor;

use domain::clock::Clock;
use domain::plugin::VersionState;
use minisign::KeyPair;
use test_support::needs;

use super::{Bench, guest_path, job};
use crate::SandboxConfig;
use crate::versions::signature::{Key, Policy, Signatures};

const BYTES: &[u8] = b"\0asm and so on";

fn pair() -> KeyPair {
    KeyPair::generate_unencrypted_keypair().unwrap()
}

fn sign(pair: &KeyPair, bytes: &[u8]) -> String {
    minisign::sign(Some(&pair.pk), &pair.sk, Cursor::new(bytes), Some("of a test"), None).unwrap().to_string()
}

fn trusting(policy: Policy, pairs: &[&KeyPair]) -> Signatures {
    let keys = pairs.iter().map(|pair| Key::parse(&pair.pk.to_base64()).unwrap());
    Signatures { policy, keys: keys.collect() }
}

#[test]
fn file_signed_by_a_trusted_key_is_trusted() {
    let (first, second, stranger) = (pair(), pair(), pair());
    let trusted = trusting(Policy::Required, &[&first, &second]);
    assert_eq!(trusted.refuse(BYTES, Some(&sign(&second, BYTES))), None);
    let refused = |signature: Option<&str>, bytes: &[u8]| trusted.refuse(bytes, signature).unwrap();
    assert!(refused(None, BYTES).starts_with("it is not signed: "));
    assert!(refused(Some("RW"), BYTES).starts_with("its signature is not one of minisign's: "));
    let by_stranger = refused(Some(&sign(&stranger, BYTES)), BYTES);
    assert_eq!(by_stranger, "it is signed by a key that is not in plugins.keys");
    let of_other = "its signature is not of these bytes: sign the file again";
    assert_eq!(refused(Some(&sign(&first, b"other bytes")), BYTES), of_other);
    assert_eq!(trusting(Policy::Off, &[]).refuse(BYTES, None), None);
}

#[test]
fn no_changed_byte_of_file_or_signature_passes() {
    let key = pair();
    let trusted = trusting(Policy::Required, &[&key]);
    let signature = sign(&key, BYTES);
    for at in 0..BYTES.len() {
        let mut bytes = BYTES.to_vec();
        bytes[at] ^= 1;
        assert!(trusted.refuse(&bytes, Some(&signature)).is_some(), "byte {at}");
    }
    // The first line is a comment and not covered by the signature.
    let start = signature.find('\n').unwrap() + 1;
    for at in (start..signature.len()).filter(|at| signature.as_bytes()[*at].is_ascii_alphanumeric()) {
        let mut changed = signature.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(trusted.refuse(BYTES, Some(&changed)).is_some(), "character {at} of the signature");
    }
}

#[test]
fn invalid_key_is_reported() {
    for text in ["", "RW", "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO", "ü"] {
        assert!(Key::parse(text).is_err(), "{text:?}");
    }
}

/// A sandbox that checks signatures with this key.
async fn bench(policy: Policy, key: &KeyPair) -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let mut config = SandboxConfig::new(dir.path(), Clock::steady());
    config.signatures = trusting(policy, &[key]);
    Bench::of(dir, config, &[], vec![job("versioned")]).await
}

impl Bench {
    fn put_signature(&self, of: &str, key: &KeyPair) {
        let bytes = std::fs::read(guest_path(of)).unwrap();
        std::fs::write(self.dir.path().join("versioned.wasm.minisig"), sign(key, &bytes)).unwrap();
    }
}

#[tokio::test]
async fn required_signature_is_checked_before_compilation() {
    needs!(Plugins);
    let key = pair();
    let bench = bench(Policy::Required, &key).await;
    bench.drop_in("versioned-a", "versioned");
    let report = bench.rescan().await;
    let VersionState::Rejected(reason) = &report.rejected[0].state else { panic!() };
    assert!(reason.starts_with("it is not signed: "), "{reason}");
    bench.put_signature("versioned-a", &key);
    assert_eq!(bench.rescan().await.activated.len(), 1, "the same bytes, signed");
    let a = bench.digest("versioned");
    assert!(a.is_some());

    // The next version arrives before its signature: the previous one stays active.
    bench.drop_in("versioned-b", "versioned");
    let report = bench.rescan().await;
    let VersionState::Rejected(reason) = &report.rejected[0].state else { panic!() };
    assert_eq!(reason, "its signature is not of these bytes: sign the file again");
    assert_eq!(bench.digest("versioned"), a);
    bench.put_signature("versioned-b", &key);
    assert_eq!(bench.rescan().await.activated[0].version, "b");

    // Removing a signature also deactivates its version.
    std::fs::remove_file(bench.dir.path().join("versioned.wasm.minisig")).unwrap();
    assert_eq!(bench.rescan().await.rejected.len(), 1);
    assert_eq!(bench.digest("versioned"), None);
}

#[tokio::test]
async fn unsigned_file_runs_with_a_warning_if_allowed() {
    needs!(Plugins);
    let bench = bench(Policy::Warn, &pair()).await;
    bench.drop_in("versioned-a", "versioned");
    let report = bench.rescan().await;
    assert_eq!((report.activated.len(), report.trouble.unsigned.len()), (1, 1));
    assert!(bench.digest("versioned").is_some());
    // Reported at each rescan, as long as it is unsigned.
    assert_eq!(bench.rescan().await.trouble.unsigned.len(), 1);
}
