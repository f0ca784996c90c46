//! Paths of the API for its clients: the command line and the page.

/// `/api/v1/…` with each segment escaped: an item's key can contain any character.
pub fn path(segments: &[&str]) -> String {
    segments.iter().fold("/api/v1".to_owned(), |path, segment| format!("{path}/{}", escape(segment)))
}

fn escape(segment: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
    let mut escaped = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if keep(byte) {
            escaped.push(char::from(byte));
        } else {
            // A dot is escaped, too: "." and ".." would be removed from the path.
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
