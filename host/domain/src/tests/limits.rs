//! Cutting text.

use crate::limits::{CEILING, Limits, cut};

#[test]
fn text_within_the_bound_is_unchanged() {
    for text in ["", "abc", "钱包"] {
        assert_eq!(cut(text, text.len()), text);
        assert_eq!(cut(text, usize::MAX), text);
    }
}

#[test]
fn cut_text_says_so() {
    assert_eq!(cut("0123456789abcdef", 12), "012 …(cut)");
    assert_eq!(cut("钱包钱包钱包", 14), "钱 …(cut)", "in no character's middle");
}

#[test]
fn the_bound_holds_at_every_length_of_every_kind_of_character() {
    for text in ["a".repeat(40), "é".repeat(20), "钱".repeat(14), "🦀".repeat(10), "aé钱🦀".repeat(4)]
    {
        for bytes_max in 0..=text.len() {
            let short = cut(&text, bytes_max);
            assert!(short.len() <= bytes_max, "{bytes_max}: {short:?} has {} bytes", short.len());
            let kept = short.trim_end_matches(" …(cut)");
            assert!(text.starts_with(kept), "{bytes_max}: {short:?}");
        }
    }
}

#[test]
fn defaults_are_below_the_ceiling() {
    let limits = Limits::DEFAULT;
    assert!(limits.memory_bytes <= CEILING.memory_bytes);
    assert!(limits.cpu_time <= CEILING.cpu_time && limits.wall_time <= CEILING.wall_time);
    assert!(limits.cpu_time <= limits.wall_time);
}
