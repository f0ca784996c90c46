use crate::lock::{LOCK_NAME_BYTES_MAX, LockPattern, check_name};

#[test]
fn a_pattern_covers_one_name_or_all_that_begin_alike() {
    let covers = |pattern: &str, name: &str| pattern.parse::<LockPattern>().unwrap().covers(name);
    assert!(covers("ledger", "ledger") && !covers("ledger", "ledger2") && !covers("ledger", "ledge"));
    assert!(
        covers("wallet:*", "wallet:eth:1") && !covers("wallet:*", "wallets") && !covers("wallet:*", "ledger")
    );
    for text in ["ledger", "wallet:*"] {
        assert_eq!(text.parse::<LockPattern>().unwrap().to_string(), text);
    }
}

#[test]
fn invalid_lock_names_are_refused() {
    for text in ["", "*", "a*b", "a\nb", "a**"] {
        assert!(text.parse::<LockPattern>().is_err(), "{text:?}");
    }
    assert!(check_name(&"x".repeat(LOCK_NAME_BYTES_MAX)).is_ok());
    assert!(check_name(&"x".repeat(LOCK_NAME_BYTES_MAX + 1)).is_err());
    assert!(check_name("wallet:*").is_err());
}
