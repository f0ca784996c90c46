//! How long to wait before the next attempt, as a policy and one pure function.

use jiff::{SignedDuration, Timestamp};

use crate::failure::Failure;

/// `min(cap, base * factor^(attempt - 1))`, less a stable share of up to `jitter`.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    pub base: SignedDuration,
    pub factor: f64,
    pub cap: SignedDuration,
    /// Share of the delay (0 to 1) that a hash of the key may subtract. Spreads items that failed together,
    /// and is constant for one key.
    pub jitter: f64,
    /// Counted attempts before a person has to decide. `None` is explicitly unbounded.
    pub max_attempts: Option<u32>,
    /// Shortest wait after an answer that does not count. `None` means `base`.
    pub min_delay: Option<SignedDuration>,
    /// Consecutive answers that do not count before a person has to decide. `None` is explicitly unbounded.
    pub deferrals_max: Option<u32>,
    pub when_exhausted: WhenExhausted,
    /// An item without an attempt for this long starts again at attempt 1.
    pub forget_after: Option<SignedDuration>,
    /// Claims in a row that ended in a crash, before a person has to decide.
    pub crashes_max: u32,
    /// The admin's rules for failures, by their code.
    pub by_code: Vec<CodeRule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeRule {
    /// A code, or a prefix of codes followed by `*`.
    pub pattern: String,
    pub then: Then,
}

/// The action after a failure. It overrides the plugin's classification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Retried after the backoff; counts.
    Retry,
    /// Retried after this delay, or after the backoff; does not count.
    Throttle(Option<SignedDuration>),
    /// A person decides.
    Stop,
}

impl CodeRule {
    fn fits(&self, code: &str) -> bool {
        match self.pattern.strip_suffix('*') {
            Some(start) => code.starts_with(start),
            None => code == self.pattern,
        }
    }
}

/// The action after the last attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenExhausted {
    /// A person decides.
    Manual,
    /// A person may decide. If a later run finds the item before that, it starts again at attempt 1.
    NextRun,
}

impl RetryPolicy {
    pub const DEFAULT: RetryPolicy = RetryPolicy {
        base: SignedDuration::from_secs(10),
        factor: 2.0,
        cap: SignedDuration::from_mins(30),
        jitter: 0.1,
        max_attempts: Some(10),
        min_delay: None,
        // Ten days of such answers at the cap of half an hour; three weeks at one hour each.
        deferrals_max: Some(500),
        when_exhausted: WhenExhausted::Manual,
        forget_after: None,
        crashes_max: 5,
        by_code: Vec::new(),
    };

    /// Applies the admin's rules to a failure: the longest pattern that matches its code decides.
    pub fn judged(&self, failure: &Failure, attempt: u32, key: &str) -> Failure {
        let Some(error) = failure.error() else { return failure.clone() };
        let fitting = self.by_code.iter().filter(|rule| rule.fits(&error.code));
        let Some(rule) = fitting.max_by_key(|rule| rule.pattern.len()) else { return failure.clone() };
        let error = error.clone();
        match rule.then {
            Then::Retry => Failure::Transient(error),
            Then::Stop => Failure::Permanent(error),
            Then::Throttle(after) => {
                let retry_after = after.unwrap_or_else(|| self.delay(attempt, key));
                Failure::Throttled { retry_after, error }
            }
        }
    }

    /// The wait after counted attempt number `attempt` (from 1) of the item `key`.
    pub fn delay(&self, attempt: u32, key: &str) -> SignedDuration {
        self.grown(self.base, self.cap, attempt, key)
    }

    /// The shortest wait after consecutive answer number `number` (from 1) that does not count.
    pub fn deferral(&self, number: u32, key: &str) -> SignedDuration {
        let least = self.min_delay.unwrap_or(self.base);
        self.grown(least, self.cap.max(least), number, key).max(least)
    }

    fn grown(&self, base: SignedDuration, cap: SignedDuration, attempt: u32, key: &str) -> SignedDuration {
        if base.is_zero() {
            // Zero stays zero. Further down, 0 times infinity would be NaN.
            return SignedDuration::ZERO;
        }
        let exponent = f64::from(attempt.max(1) - 1);
        let most = cap.as_secs_f64();
        // A factor of 2 overflows f64 after 1,024 attempts. Infinity is above the cap, so the result is
        // right.
        let grown = (base.as_secs_f64() * self.factor.powf(exponent)).min(most);
        let kept = grown * (1.0 - self.jitter.clamp(0.0, 1.0) * share(key));
        SignedDuration::try_from_secs_f64(kept).unwrap_or(cap)
    }

    /// Whether an item's attempts are forgotten, given the time of the last one.
    pub fn forgets(&self, last: Option<Timestamp>, now: Timestamp) -> bool {
        match (self.forget_after, last) {
            (Some(span), Some(last)) => now.duration_since(last) >= span,
            _ => false,
        }
    }

    /// Whether this many consecutive answers that do not count are too many.
    pub fn too_many_deferrals(&self, number: u32) -> bool {
        self.deferrals_max.is_some_and(|max| number >= max)
    }

    pub fn exhausted(&self, attempts: u32) -> bool {
        self.max_attempts.is_some_and(|max| attempts >= max)
    }
}

/// A number in [0, 1) that depends only on the key (FNV-1a, 64 bit). The last characters of a key hardly
/// affect the upper bits, so a final mix (as in MurmurHash3) is added. Otherwise `user-1` and `user-2` would
/// wait nearly equally long.
pub(crate) fn share(key: &str) -> f64 {
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    let hash = hash ^ (hash >> 33);
    // The upper 53 bits fill an f64's mantissa exactly.
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}
