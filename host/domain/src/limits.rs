//! What one attempt may use. Every limit is on by default; a job may set its own below the
//! admin's ceilings.

use std::time::Duration;

pub const KIB: usize = 1 << 10;
pub const MIB: usize = 1 << 20;

/// Limits of one job. Units are in the names; times are real time, not the clock's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sum over all linear memories of an attempt.
    pub memory_bytes: usize,
    /// Time that the guest's own code may run.
    pub cpu_time: Duration,
    /// Time from the start of a call to its end, waiting included.
    pub wall_time: Duration,
    /// Bytes that one host call may make the host copy.
    pub hostcall_bytes: usize,
    pub handles: usize,
    pub random_bytes: u64,
    pub items_per_page: u32,
    pub pages_per_run: u32,
    pub payload_bytes: usize,
    /// A note or an error's message; longer ones are cut.
    pub text_bytes: usize,
    pub log_lines: usize,
    pub log_line_bytes: usize,
    pub log_bytes: usize,
    pub sql_statements: u32,
    pub sql_time: Duration,
    pub sql_rows: usize,
    pub sql_bytes: usize,
    pub kv_value_bytes: usize,
    pub kv_keys_per_page: usize,
    /// Keys that a job keeps in all.
    pub kv_keys: usize,
    /// Locks that an attempt may hold.
    pub locks: usize,
    pub events: usize,
    pub alerts: usize,
    pub audit_records: usize,
    pub figures: usize,
    /// Items that an attempt may add.
    pub items: usize,
    /// Open items that a job may have for this one to add more.
    pub items_open: usize,
    pub http_requests: u32,
    /// Requests that are on their way at the same time.
    pub http_concurrent: u32,
    /// From the start of a request to the last byte of its answer.
    pub http_time: Duration,
    pub http_request_bytes: usize,
    pub http_response_bytes: usize,
}

impl Limits {
    pub const DEFAULT: Limits = Limits {
        memory_bytes: 64 * MIB,
        cpu_time: Duration::from_secs(1),
        wall_time: Duration::from_secs(60),
        hostcall_bytes: 4 * MIB,
        handles: 1_024,
        random_bytes: 64 * KIB as u64,
        items_per_page: 1_000,
        pages_per_run: 1_000,
        payload_bytes: 256 * KIB,
        text_bytes: 4 * KIB,
        log_lines: 256,
        log_line_bytes: 8 * KIB,
        log_bytes: 256 * KIB,
        sql_statements: 64,
        sql_time: Duration::from_secs(5),
        sql_rows: 1_000,
        sql_bytes: 4 * MIB,
        kv_value_bytes: 64 * KIB,
        kv_keys_per_page: 1_000,
        kv_keys: 10_000,
        locks: 16,
        events: 64,
        alerts: 16,
        audit_records: 64,
        figures: 256,
        items: 64,
        items_open: 100_000,
        http_requests: 32,
        http_concurrent: 6,
        http_time: Duration::from_secs(10),
        http_request_bytes: MIB,
        http_response_bytes: 4 * MIB,
    };
}

/// The highest values that a job may ask for.
pub const CEILING: Ceiling = Ceiling {
    memory_bytes: 512 * MIB,
    cpu_time: Duration::from_secs(300),
    wall_time: Duration::from_secs(3_600),
};

pub struct Ceiling {
    pub memory_bytes: usize,
    pub cpu_time: Duration,
    pub wall_time: Duration,
}

/// Cuts `text` to at most `bytes_max` bytes at a character's border and says so at its end.
pub fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = " …(cut)";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    // Where not even the mark fits, the text is cut without a word.
    let mark = if bytes_max < MARK.len() { "" } else { MARK };
    let mut end = bytes_max - mark.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &text[..end])
}
