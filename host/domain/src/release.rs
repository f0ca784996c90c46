//! How a new version of a plugin comes into use: at once, by a share of the items first, or when somebody approved of it.

use std::fmt;

use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};

use crate::id::{Digest, JobName};

/// What an admin decided for all plugins of a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReleaseRules {
    pub approval: Approval,
    /// None: a new version takes over at once.
    pub canary: Option<Canary>,
}

/// Which versions wait until somebody approved of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Approval {
    #[default]
    Off,
    /// Those that ask for more than the version that runs.
    Wider,
}

/// A new version proves itself on a share of the items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Canary {
    /// Of all items, 0 to 1.
    pub share: f64,
    /// So many attempts without a failure are enough …
    pub promote_attempts: u64,
    /// … and so is this time, whatever was tried.
    pub promote_after: SignedDuration,
    /// How much higher its share of failed attempts may be: 0.05 is 5 of a hundred.
    pub failures_margin: f64,
    /// How much more CPU time an attempt may take: 1.0 is twice as much.
    pub cost_margin: f64,
    /// Of each version; with fewer attempts nothing is said of cost.
    pub attempts_min: u64,
}

impl Canary {
    pub const DEFAULT: Canary = Canary {
        share: 0.1,
        promote_attempts: 200,
        promote_after: SignedDuration::from_mins(15),
        failures_margin: 0.05,
        cost_margin: 1.0,
        attempts_min: 20,
    };
}

/// Where a version stands that is not what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// For somebody's approval.
    Waiting,
    Canary,
}

impl Stage {
    pub fn word(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting",
            Stage::Canary => "canary",
        }
    }
}

impl std::str::FromStr for Stage {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Stage, Self::Err> {
        match text {
            "waiting" => Ok(Stage::Waiting),
            "canary" => Ok(Stage::Canary),
            _ => Err("a stage is waiting or canary"),
        }
    }
}

/// What the attempts of one version came to while another is tried beside it. Attempts that a service put off
/// (`throttled`) are none of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    pub attempts: u64,
    pub failed: u64,
    pub cpu_us: u64,
}

impl Tried {
    pub fn add(&mut self, failed: bool, cpu_us: u64) {
        self.attempts += 1;
        self.failed += u64::from(failed);
        self.cpu_us = self.cpu_us.saturating_add(cpu_us);
    }

    fn failure_rate(&self) -> f64 {
        if self.attempts == 0 { 0.0 } else { self.failed as f64 / self.attempts as f64 }
    }

    /// Within which the rate of failures lies in 19 of 20 cases: Wilson's score interval (E. B. Wilson, 1927).
    fn failure_rates(&self) -> (f64, f64) {
        const Z: f64 = 1.96;
        if self.attempts == 0 {
            return (0.0, 0.0);
        }
        let (n, p) = (self.attempts as f64, self.failure_rate());
        let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let (middle, scale) = (p + Z * Z / (2.0 * n), 1.0 + Z * Z / n);
        ((middle - spread) / scale, (middle + spread) / scale)
    }

    /// By how much it fails more often than another, at least: the lower end of the interval for a difference of two
    /// rates (R. G. Newcombe, 1998, method 10). Five failures of five say more than one of one.
    fn fails_more_by(&self, other: &Tried) -> f64 {
        let (own, others) = (self.failure_rate(), other.failure_rate());
        let (low, high) = (self.failure_rates().0, other.failure_rates().1);
        own - others - ((own - low).powi(2) + (high - others).powi(2)).sqrt()
    }

    fn mean_cpu_us(&self) -> f64 {
        if self.attempts == 0 { 0.0 } else { self.cpu_us as f64 / self.attempts as f64 }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tried { attempts, failed, .. } = self;
        write!(f, "{failed} of {attempts} attempts failed, {:.0} µs of CPU time each", self.mean_cpu_us())
    }
}

/// What is to become of a version on trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    GoOn,
    Promote,
    /// Why.
    RollBack(String),
}

/// One failure, or two, may be bad luck.
const FAILURES_MIN: u64 = 3;

/// `lasted` is how long both have run side by side.
pub fn judge(canary: &Canary, before: &Tried, new: &Tried, lasted: SignedDuration) -> Verdict {
    let bearable = before.failure_rate() + canary.failures_margin;
    let fails_more = || Verdict::RollBack(format!("it fails more often: {new}; before it: {before}"));
    if new.failed >= FAILURES_MIN && new.fails_more_by(before) > canary.failures_margin {
        return fails_more();
    }
    let measured = new.attempts.min(before.attempts) >= canary.attempts_min.max(1);
    if measured && new.mean_cpu_us() > before.mean_cpu_us() * (1.0 + canary.cost_margin) {
        return Verdict::RollBack(format!("it costs more: {new}; before it: {before}"));
    }
    let enough = new.attempts.saturating_sub(new.failed) >= canary.promote_attempts;
    if lasted >= canary.promote_after && new.failure_rate() > bearable {
        return fails_more();
    }
    // What looks worse, and may be chance, goes on until it is clear or the time is over.
    if lasted >= canary.promote_after || (enough && new.failure_rate() <= bearable) {
        return Verdict::Promote;
    }
    Verdict::GoOn
}

/// Whether an item goes to the version on trial: always the same as long as it is the same version, on each host.
pub fn goes_to(version: Digest, share: f64, job: &JobName, key: &str) -> bool {
    let mut hash = Sha256::new();
    hash.update(version.0);
    hash.update(job.as_str());
    hash.update([0]);
    hash.update(key);
    let first = hash.finalize().iter().take(4).fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
    f64::from(first) < share * 4_294_967_296.0
}
