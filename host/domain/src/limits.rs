//! Resource limits of one attempt. Every limit is on by default. A job may set its own limits below the
//! admin's ceilings.

use std::time::Duration;

pub const KIB: usize = 1 << 10;
pub const MIB: usize = 1 << 20;

/// Limits of one job. Units are part of the names. Durations are real time, not the clock's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Total of all linear memories of an attempt.
    pub memory_bytes: usize,
    /// CPU time of the guest's own code.
    pub cpu_time: Duration,
    /// Time from the start of a call to its end, including waiting.
    pub wall_time: Duration,
    /// Most bytes that one host call may copy.
    pub hostcall_bytes: usize,
    pub handles: usize,
    pub random_bytes: u64,
    pub items_per_page: u32,
    pub pages_per_run: u32,
    pub payload_bytes: usize,
    /// Longest note or error message. Longer ones are cut.
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
    /// Most keys that a job stores in total.
    pub kv_keys: usize,
    /// Most locks that an attempt may hold.
    pub locks: usize,
    pub events: usize,
    pub alerts: usize,
    pub audit_records: usize,
    pub metrics: usize,
    /// Most items that an attempt may add.
    pub items: usize,
    /// Most open items of the target job: above this, this job may not add items to it.
    pub items_open: usize,
    pub http_requests: u32,
    /// Most requests in flight at the same time.
    pub http_concurrent: u32,
    /// Time from the start of a request to the last byte of its response.
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
        metrics: 256,
        items: 64,
        items_open: 100_000,
        http_requests: 32,
        http_concurrent: 6,
        http_time: Duration::from_secs(10),
        http_request_bytes: MIB,
        http_response_bytes: 4 * MIB,
    };
}

/// The highest limits that a job may request.
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

/// Cuts `text` to at most `bytes_max` bytes at a character boundary and appends a mark.
pub fn cut(text: &str, bytes_max: usize) -> String {
    const MARK: &str = " …(cut)";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    // If the mark does not fit, the text is cut without it.
    let mark = if bytes_max < MARK.len() { "" } else { MARK };
    let mut end = bytes_max - mark.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{mark}", &text[..end])
}
