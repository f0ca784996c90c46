use crate::secret::{Mask, SECRET_BYTES_MAX, Secret};

fn secret(text: &str) -> Secret {
    Secret::new(text).unwrap()
}

#[test]
fn a_secret_is_never_shown() {
    assert_eq!(format!("{:?}", secret("canary")), "Secret(...)");
    assert!(Secret::new("").is_err());
    assert!(Secret::new(&"x".repeat(SECRET_BYTES_MAX + 1)).is_err());
}

#[test]
fn stream_hides_secrets_that_are_split_between_chunks() {
    let texts = ["aab", "xaabyaab", "aaab", "aabaab", "aa", "ab", "", "token=aab&next=aa"];
    for text in texts {
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut mask = Mask::new(vec![secret("aab"), secret("yz")]);
                let parts = [&text[..first], &text[first..second], &text[second..]];
                let mut read: Vec<u8> = parts.iter().flat_map(|part| mask.part(part.as_bytes())).collect();
                read.extend(mask.rest());
                assert_eq!(String::from_utf8(read).unwrap(), text.replace("aab", "***"), "{parts:?}");
            }
        }
    }
}

#[test]
fn text_that_cannot_be_a_secret_is_not_held_back() {
    let mut mask = Mask::new(vec![secret("canary")]);
    assert_eq!(mask.part(b"data: 1\n"), b"data: 1\n");
    assert_eq!(mask.part(b"data: can"), b"data: ");
    assert_eq!(mask.part(b"dy"), b"candy");
    assert_eq!(mask.rest(), b"");
}
