//! Text from outside (guests, services, requests, files), made safe for a terminal, a log or a page.

use std::borrow::Cow;

use crate::id::KEY_BYTES_MAX;

/// Whether a display could interpret `c` or show nothing for it: control characters, line and paragraph
/// separators, direction marks, zero-width characters and unassigned code points. Spaces and combining marks
/// are not hidden.
pub fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    !is_space(c) && (is_blank(c) || !is_printable(c))
}

/// Unicode's category Zs beyond ASCII.
fn is_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Letters and marks with Unicode's property Default_Ignorable_Code_Point: fillers and variation selectors.
/// Its other characters are not printable.
fn is_blank(c: char) -> bool {
    matches!(
        c,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{ffa0}' | '\u{e0100}'..='\u{e01ef}'
    )
}

/// Uses the standard library's table of printable characters, which excludes the categories Cc, Cf, Cn, Co,
/// Zl, Zp and Zs. It is accessible only through `str::escape_debug`, which also escapes a combining mark in
/// first position.
fn is_printable(c: char) -> bool {
    let mut bytes = [b'x'; 5];
    let end = 1 + c.encode_utf8(&mut bytes[1..]).len();
    std::str::from_utf8(&bytes[..end]).is_ok_and(|pair| pair.escape_debug().nth(1) == Some(c))
}

/// `text` on one line, with each hidden character in its visible form: `\n`, `\u{1b}`, `\u{202e}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_unless(text, |_| false)
}

/// Like [`escape`], for text of several lines: line breaks and tabs are kept.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    escape_unless(text, |c| c == '\n' || c == '\t')
}

fn escape_unless(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let escaped = |c: char| is_hidden(c) && !keep(c);
    if !text.chars().any(escaped) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if !escaped(c) => shown.push(c),
            '\n' | '\r' | '\t' => shown.extend(c.escape_default()),
            c => shown.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(shown)
}

/// A JSON document with hidden characters replaced by JSON escapes, so that its meaning is unchanged. Line
/// breaks and tabs occur only between its values.
pub fn escape_json(document: &str) -> Cow<'_, str> {
    let escaped = |c: char| is_hidden(c) && c != '\n' && c != '\t';
    if !document.chars().any(escaped) {
        return Cow::Borrowed(document);
    }
    let mut shown = String::with_capacity(document.len() + 16);
    for c in document.chars() {
        if c == '\r' {
            shown.push(' ');
        } else if escaped(c) {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| shown.push_str(&format!("\\u{unit:04x}")));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("it has {bytes} bytes, 1 to {most} are allowed")]
    Length { bytes: usize, most: usize },
    #[error("it holds the control or invisible character U+{0:04X}")]
    Hidden(u32),
}

/// Checks a key of an item, an alert, an event or a job's key-value store. The rule is the same for every
/// source of keys. Keys are displayed unchanged, so two keys that look alike must not differ in a hidden
/// character.
pub fn check_key(key: &str) -> Result<(), BadName> {
    check_name(key, KEY_BYTES_MAX)
}

/// The same check with another maximum length.
pub fn check_name(name: &str, bytes_max: usize) -> Result<(), BadName> {
    if name.is_empty() || name.len() > bytes_max {
        return Err(BadName::Length { bytes: name.len(), most: bytes_max });
    }
    name.chars().find(|c| is_hidden(*c)).map_or(Ok(()), |c| Err(BadName::Hidden(c.into())))
}
