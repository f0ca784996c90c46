//! Settings of the engine, validated by the caller. Times are measured by the engine's clock
//! unless marked "real time".

use std::time::Duration;

use jiff::SignedDuration;

#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Display name of this host.
    pub host_name: String,
    /// Attempts that this host runs at the same time, over all jobs.
    pub attempts_max: u32,
    /// Discoveries that this host runs at the same time, in addition to attempts.
    pub discoveries_max: u32,
    /// Memory that the attempts of this host may use together. A running attempt reserves
    /// its job's memory limit.
    pub memory_bytes: usize,
    /// The source that `memory_bytes` was derived from, unless it was configured.
    pub memory_from: Option<String>,
    /// Duration of a lease after a claim or a renewal.
    pub lease_ttl: SignedDuration,
    pub lease_renewal: SignedDuration,
    /// A host that cannot renew stops its guests this long before its leases end.
    pub lease_margin: SignedDuration,
    /// Interval of the scans for lost work.
    pub recovery_period: SignedDuration,
    /// Interval of the checks of jobs' heartbeats and of the removal of old rows.
    pub upkeep_period: SignedDuration,
    /// How late a job may be, beyond two due instants, before an alert is raised.
    pub heartbeat_slack: SignedDuration,
    /// How long the row of a host is kept after its last heartbeat.
    pub hosts_kept: SignedDuration,
    /// How long ticks, ended runs with their attempts, and delivered or acknowledged events are kept.
    pub history_kept: SignedDuration,
    /// How long an alert is kept after it was acknowledged.
    pub alerts_kept: SignedDuration,
    /// How long attempts may continue after the stop signal, in real time.
    pub stop_grace: Duration,
    /// Interval of polls for work when no wake-up arrives, in real time.
    pub poll_period: Duration,
}

impl EngineConfig {
    pub fn new(host_name: &str) -> EngineConfig {
        EngineConfig {
            host_name: host_name.to_owned(),
            attempts_max: 256,
            discoveries_max: 32,
            memory_bytes: 8 << 30,
            memory_from: None,
            lease_ttl: SignedDuration::from_secs(15),
            lease_renewal: SignedDuration::from_secs(5),
            lease_margin: SignedDuration::from_secs(1),
            recovery_period: SignedDuration::from_secs(5),
            upkeep_period: SignedDuration::from_mins(1),
            heartbeat_slack: SignedDuration::from_mins(1),
            hosts_kept: SignedDuration::from_hours(7 * 24),
            history_kept: SignedDuration::from_hours(90 * 24),
            alerts_kept: SignedDuration::from_hours(30 * 24),
            stop_grace: Duration::from_secs(10),
            poll_period: Duration::from_secs(1),
        }
    }

    /// Memory that discoveries may use together, in addition to attempts. A discovery with a
    /// larger limit runs alone.
    pub fn discovery_memory_bytes(&self) -> usize {
        self.memory_bytes / DISCOVERY_SHARE
    }

    /// Adjusts the settings to a clock that runs `factor` times as fast. Leases and heartbeats detect real
    /// failures, so their durations stay the same in real time.
    pub fn scaled(mut self, factor: f64) -> EngineConfig {
        let scale = |span: &mut SignedDuration| *span = span.mul_f64(factor);
        let leases = [&mut self.lease_ttl, &mut self.lease_renewal, &mut self.lease_margin];
        leases.into_iter().for_each(scale);
        [&mut self.recovery_period, &mut self.upkeep_period, &mut self.heartbeat_slack]
            .into_iter()
            .for_each(scale);
        self
    }
}

/// Discoveries get this fraction of the memory of attempts: a job runs one at a time, and most are short.
const DISCOVERY_SHARE: usize = 8;

/// Delay before an attempt is repeated because it read data that another attempt changed, by the clock.
pub(crate) const RACED_REST: SignedDuration = SignedDuration::from_millis(100);

/// Delay of a loop after the store failed, in real time.
pub(crate) const STORE_REST: Duration = Duration::from_millis(500);
