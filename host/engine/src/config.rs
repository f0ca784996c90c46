//! What the engine needs to know, checked by whoever read it. Times are the clock's, unless they say real.

use std::time::Duration;

use jiff::SignedDuration;

#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// What people call this host.
    pub host_name: String,
    /// Attempts that this host runs at the same time, over all jobs.
    pub attempts_max: u32,
    /// Discoveries that this host runs at the same time, in addition to attempts.
    pub discoveries_max: u32,
    /// What the attempts of this host may use together: each takes its job's limit of it while it runs.
    pub memory_bytes: usize,
    /// What that number was derived from, unless it was given.
    pub memory_from: Option<String>,
    /// How long a claim is ours without a renewal.
    pub lease_ttl: SignedDuration,
    pub lease_renewal: SignedDuration,
    /// A host that could not renew stops its guests this long before its leases end.
    pub lease_margin: SignedDuration,
    /// How often lost work is looked for.
    pub recovery_period: SignedDuration,
    /// How often jobs' heartbeats are looked at, and old rows removed.
    pub upkeep_period: SignedDuration,
    /// How late a job may be beyond two due instants before it is an alert.
    pub heartbeat_slack: SignedDuration,
    /// How long a host that is gone is remembered.
    pub hosts_kept: SignedDuration,
    /// How long ticks, ended runs and their attempts, and events that were taken are kept.
    pub history_kept: SignedDuration,
    /// How long an alert is kept after it was acknowledged.
    pub alerts_kept: SignedDuration,
    /// How long attempts may go on after the stop signal, in real time.
    pub stop_grace: Duration,
    /// How often work is looked for when nothing tells of any, in real time.
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

    /// What discoveries may use together, in addition to attempts. One that may use more runs alone.
    pub fn discovery_memory_bytes(&self) -> usize {
        self.memory_bytes / DISCOVERY_SHARE
    }

    /// For a clock that runs `factor` times as fast: leases and heartbeats are about real failures,
    /// so they last as long in real time as ever.
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

/// Discoveries have this part of the memory of attempts: a job has one at a time, and most are short.
const DISCOVERY_SHARE: usize = 8;

/// How long an attempt rests that built on what another one changed, by the clock.
pub(crate) const RACED_REST: SignedDuration = SignedDuration::from_millis(100);

/// How long a loop rests after the store failed it, in real time.
pub(crate) const STORE_REST: Duration = Duration::from_millis(500);
