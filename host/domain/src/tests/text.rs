//! Displayed text and accepted keys: both treat the same characters as hidden.

use std::ops::RangeInclusive;

use expect_test::expect;

use crate::id::KEY_BYTES_MAX;
use crate::lock;
use crate::text::{check_key, escape, escape_json, escape_lines, is_hidden};

/// Unicode's categories Cc, Cf, Co, Zl and Zp.
const CONTROLS: [RangeInclusive<u32>; 26] = [
    0x0..=0x1f,
    0x7f..=0x9f,
    0xad..=0xad,
    0x600..=0x605,
    0x61c..=0x61c,
    0x6dd..=0x6dd,
    0x70f..=0x70f,
    0x890..=0x891,
    0x8e2..=0x8e2,
    0x180e..=0x180e,
    0x200b..=0x200f,
    0x2028..=0x202e,
    0x2060..=0x2064,
    0x2066..=0x206f,
    0xe000..=0xf8ff,
    0xfeff..=0xfeff,
    0xfff9..=0xfffb,
    0x110bd..=0x110bd,
    0x110cd..=0x110cd,
    0x13430..=0x13438,
    0x1bca0..=0x1bca3,
    0x1d173..=0x1d17a,
    0xe0001..=0xe0001,
    0xe0020..=0xe007f,
    0xf0000..=0xffffd,
    0x100000..=0x10fffd,
];
/// Other characters that are invisible or have no meaning.
const OTHERS: [RangeInclusive<u32>; 9] = [
    0x34f..=0x34f,
    0x115f..=0x1160,
    0x17b4..=0x17b5,
    0x180b..=0x180f,
    0x2065..=0x2065,
    0x3164..=0x3164,
    0xfe00..=0xfe0f,
    0xfdd0..=0xfdef,
    0xe0000..=0xe0fff,
];

#[test]
fn every_control_and_invisible_character_is_hidden() {
    for code in CONTROLS.into_iter().chain(OTHERS).flatten() {
        let c = char::from_u32(code).unwrap();
        assert!(is_hidden(c), "U+{code:04X}");
        let text = format!("a{c}b");
        assert!(check_key(&text).is_err(), "U+{code:04X} in a key");
        assert!(lock::check_name(&text).is_err(), "U+{code:04X} in a lock's name");
        assert!(escape(&text).chars().all(|c| !is_hidden(c)), "U+{code:04X}: {:?}", escape(&text));
    }
}

#[test]
fn text_that_people_write_stays_as_it_is() {
    let texts = [
        "wallet/1:a b|c\\d\"e'f",
        "ünïcode Straße 日本 中文　全角 한국어",
        "e\u{301}\u{323} и\u{306} नमस्ते ภาษาไทย עברית العربية",
        "a\u{a0}b\u{2003}c\u{3000}d",
        "→ ✓ € 🦀 😀",
    ];
    for text in texts {
        assert_eq!(escape(text), text);
        assert_eq!(escape_json(text), text);
        assert_eq!(check_key(text), Ok(()), "{text}");
    }
}

#[test]
fn hidden_characters_are_shown() {
    let text =
        "a\u{1b}[2J\nERROR\r\tforged \u{9b}1m\u{7f} \u{202e}txt.exe\u{2066} \u{2028}x\u{200b}\u{feff}\u{0}";
    expect![
        r"a\u{1b}[2J\nERROR\r\tforged \u{9b}1m\u{7f} \u{202e}txt.exe\u{2066} \u{2028}x\u{200b}\u{feff}\u{0}"
    ]
    .assert_eq(&escape(text));
    assert_eq!(escape_lines("a\nb\u{1b}\tc\r\u{0}\u{2029}"), "a\nb\\u{1b}\tc\\r\\u{0}\\u{2029}");
    assert_eq!(escape_json("{\r\n\t\"a\": \"\u{7f}\u{e0041}\"}"), "{ \n\t\"a\": \"\\u007f\\udb40\\udc41\"}");
}

#[test]
fn keys_that_are_refused_say_why() {
    let long = "x".repeat(KEY_BYTES_MAX + 1);
    let keys = ["", "a\nb", "a\u{0}", "\u{202e}a", "a\u{200d}b", "a\u{2028}", "\u{85}", &long];
    let said: String = keys.iter().map(|key| format!("{}\n", check_key(key).unwrap_err())).collect();
    expect![[r#"
        it has 0 bytes, 1 to 512 are allowed
        it holds the control or invisible character U+000A
        it holds the control or invisible character U+0000
        it holds the control or invisible character U+202E
        it holds the control or invisible character U+200D
        it holds the control or invisible character U+2028
        it holds the control or invisible character U+0085
        it has 513 bytes, 1 to 512 are allowed
    "#]]
    .assert_eq(&said);
    assert_eq!(check_key(&long[1..]), Ok(()));
}

/// Random text: half of it from the ranges above, the rest from all of Unicode.
fn random(state: &mut u64) -> String {
    let mut next = |below: u32| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        u32::try_from((*state >> 16) % u64::from(below)).unwrap()
    };
    let length = next(40);
    let mut text = String::new();
    for _ in 0..length {
        let code = match next(4) {
            0 => next(0x180),
            1 => *CONTROLS[next(26) as usize].start(),
            2 => 0x2000 + next(0x80),
            _ => next(0x11_0000),
        };
        text.extend(char::from_u32(code));
    }
    text
}

#[test]
fn properties_hold_for_random_text() {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..20_000 {
        let text = random(&mut state);
        let shown = escape(&text);
        assert!(!shown.chars().any(is_hidden), "{text:?} is shown as {shown:?}");
        assert_eq!(escape(&shown), shown, "escaped text stays as it is");
        assert_eq!(check_key(&text).is_ok(), !text.is_empty() && shown == text, "{text:?}");
        let kept = |c: char| c == '\n' || c == '\t';
        assert!(!escape_lines(&text).chars().any(|c| is_hidden(c) && !kept(c)), "{text:?}");
        let document = serde_json::to_string(&text).unwrap();
        let safe = escape_json(&document);
        assert!(!safe.chars().any(is_hidden), "{safe:?}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text, "JSON says the same as before");
    }
}
