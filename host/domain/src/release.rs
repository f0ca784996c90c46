//! How a new version of a plugin is introduced: immediately, as a canary for a share of the items, or after
//! approval. `plan` decides which version a host activates.

pub mod plan;

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::id::{Digest, JobName, PluginName};

/// The release state of a plugin, on all hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    pub plugin: PluginName,
    /// `None`: a person took the plugin out of use.
    pub stable: Option<Digest>,
    pub since: Timestamp,
    /// The cause of this state, for the audit trail.
    pub cause: String,
    pub candidate: Option<Candidate>,
    /// The stable version or the candidate was uploaded, so it does not depend on the plugins folders.
    pub uploaded: bool,
}

/// A version that replaces the stable one if its trial succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub digest: Digest,
    pub stage: Stage,
    pub since: Timestamp,
    /// Requests that the stable version does not have.
    pub wants: Vec<String>,
}

/// The decision about a new version. It holds for all hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Stable,
    On(Stage),
    /// It was active before, and was replaced.
    Replaced,
    Quarantined(String),
}

/// When a version appeared in the plugins folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It was there when this host started, or when it was unpinned.
    AtStart,
    /// It was added since the last scan.
    Fresh,
    /// It was there at the last scan.
    Old,
}

impl Arrival {
    /// Whether a version that was replaced may become active again. A single host follows its folder at its
    /// start, too. With several hosts, an old file may only be left over.
    pub fn may_return(self, shared: bool) -> bool {
        match self {
            Arrival::Fresh => true,
            Arrival::AtStart => !shared,
            Arrival::Old => false,
        }
    }
}

/// The admin's settings for all plugins of a host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReleaseRules {
    pub approval: Approval,
    /// `None`: a new version is activated immediately.
    pub canary: Option<Canary>,
}

/// Which versions need approval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Approval {
    #[default]
    Off,
    /// Those that request more than the active version.
    Wider,
}

/// Settings for testing a new version on a share of the items.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Canary {
    /// Share of all items, 0 to 1.
    pub share: f64,
    /// Promoted after this many successful attempts …
    pub promote_attempts: u64,
    /// … or after this time, regardless of the number of attempts.
    pub promote_after: SignedDuration,
    /// How much higher its share of failed attempts may be: 0.05 is 5 percentage points.
    pub failures_margin: f64,
    /// How much more CPU time an attempt may use: 1.0 allows twice as much.
    pub cost_margin: f64,
    /// Attempts of each version that are needed to compare the CPU time.
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

/// The stage of a version that is not active yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It waits for approval.
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

/// The results of one version's attempts while two versions run. Attempts that ended throttled, postponed,
/// interrupted or by a failure of the host are not included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrialResults {
    pub attempts: u64,
    pub failed: u64,
    pub cpu_us: u64,
}

impl TrialResults {
    pub fn add(&mut self, failed: bool, cpu_us: u64) {
        self.attempts += 1;
        self.failed += u64::from(failed);
        self.cpu_us = self.cpu_us.saturating_add(cpu_us);
    }

    /// Adds the results of other attempts.
    pub fn merge(&mut self, other: &TrialResults) {
        self.attempts += other.attempts;
        self.failed += other.failed;
        self.cpu_us = self.cpu_us.saturating_add(other.cpu_us);
    }

    fn failure_rate(&self) -> f64 {
        if self.attempts == 0 { 0.0 } else { self.failed as f64 / self.attempts as f64 }
    }

    /// The 95% confidence interval of the failure rate: Wilson's score interval (E. B. Wilson, 1927).
    fn failure_rate_interval(&self) -> (f64, f64) {
        const Z: f64 = 1.96;
        if self.attempts == 0 {
            return (0.0, 0.0);
        }
        let (n, p) = (self.attempts as f64, self.failure_rate());
        let spread = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let (middle, scale) = (p + Z * Z / (2.0 * n), 1.0 + Z * Z / n);
        ((middle - spread) / scale, (middle + spread) / scale)
    }

    /// The least amount by which its failure rate exceeds another's: the lower end of the interval for a
    /// difference of two rates (R. G. Newcombe, 1998, method 10). Five failures of five weigh more than one
    /// of one.
    fn fails_more_by(&self, other: &TrialResults) -> f64 {
        let (own, others) = (self.failure_rate(), other.failure_rate());
        let (low, high) = (self.failure_rate_interval().0, other.failure_rate_interval().1);
        own - others - ((own - low).powi(2) + (high - others).powi(2)).sqrt()
    }

    fn mean_cpu_us(&self) -> f64 {
        if self.attempts == 0 { 0.0 } else { self.cpu_us as f64 / self.attempts as f64 }
    }
}

impl fmt::Display for TrialResults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TrialResults { attempts, failed, .. } = self;
        write!(f, "{failed} of {attempts} attempts failed, {:.0} µs of CPU time each", self.mean_cpu_us())
    }
}

/// The decision on a canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CanaryDecision {
    GoOn,
    Promote,
    /// The reason.
    RollBack(String),
}

/// A busy machine can add this much CPU time to an attempt, in microseconds: caches are cold, and calls are
/// interrupted.
const COST_NOISE_US: f64 = 2_000.0;
/// One or two failures may be chance.
const FAILURES_MIN: u64 = 3;

/// `lasted` is how long both versions have run side by side.
pub fn decide_canary(
    canary: &Canary,
    before: &TrialResults,
    new: &TrialResults,
    lasted: SignedDuration,
) -> CanaryDecision {
    let failure_rate_max = before.failure_rate() + canary.failures_margin;
    let fails_more = || CanaryDecision::RollBack(format!("it fails more often: {new}; before it: {before}"));
    if new.failed >= FAILURES_MIN && new.fails_more_by(before) > canary.failures_margin {
        return fails_more();
    }
    let measured = new.attempts.min(before.attempts) >= canary.attempts_min.max(1);
    let cpu_us_max = before.mean_cpu_us() * (1.0 + canary.cost_margin) + COST_NOISE_US;
    if measured && new.mean_cpu_us() > cpu_us_max {
        return CanaryDecision::RollBack(format!("it costs more: {new}; before it: {before}"));
    }
    let enough = new.attempts.saturating_sub(new.failed) >= canary.promote_attempts;
    if lasted >= canary.promote_after && new.failure_rate() > failure_rate_max {
        return fails_more();
    }
    // A higher failure rate that may be chance is tolerated until it is significant or the time is over.
    if lasted >= canary.promote_after || (enough && new.failure_rate() <= failure_rate_max) {
        return CanaryDecision::Promote;
    }
    CanaryDecision::GoOn
}

/// Whether an item is assigned to the canary. The result is the same on each host as long as the version is
/// the same.
pub fn goes_to_canary(version: Digest, share: f64, job: &JobName, key: &str) -> bool {
    let mut hash = Sha256::new();
    hash.update(version.0);
    hash.update(job.as_str());
    hash.update([0]);
    hash.update(key);
    let first = hash.finalize().iter().take(4).fold(0_u32, |all, byte| all << 8 | u32::from(*byte));
    f64::from(first) < share * 4_294_967_296.0
}
