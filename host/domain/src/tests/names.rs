//! Names and identifiers.

use expect_test::expect;
use jiff::SignedDuration;

use super::at;
use crate::id::{AttemptId, Digest, ItemId, NAME_BYTES_MAX, Name};

#[test]
fn valid_names_are_accepted() {
    for text in ["a", "wallet-keygen-retry", "a_b-c9", "f7"] {
        let name: Name = text.parse().unwrap();
        assert_eq!((name.as_str(), name.to_string().as_str()), (text, text));
    }
    assert!("x".repeat(NAME_BYTES_MAX).parse::<Name>().is_ok());
}

#[test]
fn names_that_are_refused_say_why() {
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let bad = ["", "9lives", "-a", "_a", "Wallet", "a b", "a/b", "..", "a\n", "é", "a\0", "钱包", &long];
    let text: String =
        bad.iter().map(|text| format!("{text:?}: {}\n", text.parse::<Name>().unwrap_err())).collect();
    expect![[r#"
        "": a name cannot be empty
        "9lives": '9' is not allowed in a name: use a-z, 0-9, '-' and '_', starting with a letter
        "-a": '-' is not allowed in a name: use a-z, 0-9, '-' and '_', starting with a letter
        "_a": '_' is not allowed in a name: use a-z, 0-9, '-' and '_', starting with a letter
        "Wallet": 'W' is not allowed in a name: use a-z, 0-9, '-' and '_', starting with a letter
        "a b": ' ' is not allowed in a name: use a-z, 0-9, '-' and '_', starting with a letter
        "a/b": '/' is not allowed in a name: use a-z, 0-9, '-' and '_', starting with a letter
        "..": '.' is not allowed in a name: use a-z, 0-9, '-' and '_', starting with a letter
        "a\n": '\n' is not allowed in a name: use a-z, 0-9, '-' and '_', starting with a letter
        "é": 'é' is not allowed in a name: use a-z, 0-9, '-' and '_', starting with a letter
        "a\0": '\0' is not allowed in a name: use a-z, 0-9, '-' and '_', starting with a letter
        "钱包": '钱' is not allowed in a name: use a-z, 0-9, '-' and '_', starting with a letter
        "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": a name has at most 64 bytes, this one has 65
    "#]].assert_eq(&text);
}

#[test]
fn ids_made_later_sort_later_and_read_back() {
    let start = at("2026-11-20T12:00:00Z");
    let ids: Vec<ItemId> = (0..100).map(|ms| ItemId::new(start + SignedDuration::from_millis(ms))).collect();
    assert!(ids.is_sorted());
    assert!(ids.iter().map(ToString::to_string).is_sorted(), "as text too: that is how they are stored");
    for id in &ids {
        assert_eq!(id.to_string().parse::<ItemId>().unwrap(), *id);
    }
}

#[test]
fn ids_of_one_moment_differ() {
    let now = at("2026-11-20T12:00:00Z");
    let mut ids: Vec<AttemptId> = (0..1_000).map(|_| AttemptId::new(now)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1_000);
    assert!("no-uuid".parse::<ItemId>().is_err());
    assert!("".parse::<ItemId>().is_err());
    // A clock before 1970 is wrong, but an id is created anyway.
    AttemptId::new(at("1960-01-01T00:00:00Z"));
}

#[test]
fn digests_are_shown_in_lower_case_hex() {
    let mut bytes = [0; 32];
    bytes[0] = 0x0a;
    bytes[1] = 0xff;
    bytes[31] = 1;
    let digest = Digest(bytes);
    assert_eq!(digest.to_string(), format!("0aff{}01", "00".repeat(29)));
    assert_eq!(
        (digest.short().as_str(), format!("{digest:?}").as_str()),
        ("0aff00000000", "Digest(0aff00000000)")
    );
}
