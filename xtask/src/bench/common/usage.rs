//! What one item costs: CPU time of the host and of Postgres, and bytes of Postgres's log (WAL).

use std::fs;

use anyhow::{Context, Result};

use super::served::Host;
use crate::postgres::Postgres;

/// Of `/proc/PID/stat`: Linux reports times to programs in this unit on all platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// Totals at one instant.
pub struct Usage {
    host_cpu_s: f64,
    postgres_cpu_s: f64,
    wal_bytes: f64,
}

/// For one item.
#[derive(Clone, Copy)]
pub struct PerItem {
    pub host_cpu_us: f64,
    pub postgres_cpu_us: f64,
    pub wal_bytes: f64,
}

impl Usage {
    pub fn now(host: &Host, postgres: &Postgres) -> Result<Self> {
        let wal = postgres.query(&postgres.url(), "SELECT pg_current_wal_lsn() - '0/0'")?;
        Ok(Self {
            host_cpu_s: cpu_s(host.process_id())?,
            postgres_cpu_s: server_cpu_s(postgres)?,
            wal_bytes: wal.trim().parse().context("the position in the log is no number")?,
        })
    }

    pub fn per_item(&self, later: &Self, items: u64) -> PerItem {
        let each = |before: f64, after: f64| (after - before) / items as f64;
        PerItem {
            host_cpu_us: each(self.host_cpu_s, later.host_cpu_s) * 1e6,
            postgres_cpu_us: each(self.postgres_cpu_s, later.postgres_cpu_s) * 1e6,
            wal_bytes: each(self.wal_bytes, later.wal_bytes),
        }
    }
}

/// Of the server and all its processes; those that ended count for the server.
fn server_cpu_s(postgres: &Postgres) -> Result<f64> {
    let server = postgres.process_id()?;
    let mut sum = cpu_s(server)?;
    for entry in fs::read_dir("/proc").context("failed to read /proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end meanwhile.
        if let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat"))
            && parent(&stat) == Some(server)
        {
            sum += times(&stat).unwrap_or(0.0);
        }
    }
    Ok(sum)
}

/// CPU time of a process in seconds.
pub fn cpu_s(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    times(&stat).with_context(|| format!("{path} has no times"))
}

/// The fields after the name, which is in parentheses and may contain spaces: the first is the state, field 3.
fn fields(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}

fn parent(stat: &str) -> Option<u32> {
    fields(stat)?.get(1)?.parse().ok()
}

/// Fields 14 to 17: user and system time of the process, and of its children that ended.
fn times(stat: &str) -> Option<f64> {
    let ticks: Option<f64> = fields(stat)?.get(11..15)?.iter().map(|ticks| ticks.parse::<f64>().ok()).sum();
    ticks.map(|ticks| ticks / TICKS_PER_SECOND)
}

/// Resident memory of a process in KiB.
pub fn memory_kib(process_id: u32) -> Result<u64> {
    let path = format!("/proc/{process_id}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    resident_kib(&status).with_context(|| format!("{path} has no VmRSS"))
}

fn resident_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_parent_are_read_behind_the_name() {
        let stat = "7 (a (b) c) S 3 7 7 0 -1 4194304 1 2 3 4 150 50 20 10 20 0 1 0 12 1 1";
        assert_eq!(parent(stat), Some(3));
        assert_eq!(times(stat), Some(2.3));
        assert_eq!(times("7 (a) S 3"), None);
    }

    #[test]
    fn resident_memory_is_read_from_its_line() {
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t  20480 kB\n"), Some(20_480));
        assert_eq!(resident_kib("Name:\tx\n"), None);
    }

    #[test]
    fn work_is_divided_by_items() {
        let before = Usage { host_cpu_s: 1.0, postgres_cpu_s: 2.0, wal_bytes: 500.0 };
        let after = Usage { host_cpu_s: 1.5, postgres_cpu_s: 4.0, wal_bytes: 10_500.0 };
        let each = before.per_item(&after, 100_000);
        assert_eq!(each.host_cpu_us.round(), 5.0);
        assert_eq!(each.postgres_cpu_us.round(), 20.0);
        assert_eq!(each.wal_bytes, 0.1);
    }
}
