//! Logs the report of a scan.

use domain::plugin::{PluginVersion, VersionState};
use sandbox::{ScanReport, Trouble};

/// The versions whose state has changed.
pub fn changed(report: &ScanReport) -> impl Iterator<Item = &PluginVersion> {
    report.activated.iter().chain(&report.on_trial).chain(&report.retired).chain(&report.rejected)
}

pub fn log_changes(report: &ScanReport) {
    for version in &report.activated {
        let (plugin, digest) = (&version.plugin, version.digest.short());
        tracing::info!(%plugin, %digest, version = %version.version, "plugin active");
    }
    for version in &report.retired {
        tracing::info!(plugin = %version.plugin, digest = %version.digest.short(), "plugin retired");
    }
    for version in &report.rejected {
        if let VersionState::Rejected(reason) = &version.state {
            let (plugin, digest) = (&version.plugin, version.digest.short());
            tracing::error!(%plugin, %digest, %reason, "plugin rejected; nothing else changes");
        }
    }
    for version in &report.on_trial {
        let (plugin, digest, state) = (&version.plugin, version.digest.short(), version.state.word());
        let wants = version.state.reason().unwrap_or_default();
        tracing::warn!(%plugin, %digest, state, wants, "a new version does not replace the active one yet");
    }
}

/// Logs problems that the scan before did not have.
pub fn log_trouble(now: &Trouble, before: &Trouble) {
    if let Some(problem) = now.problem.as_ref().filter(|_| now.problem != before.problem) {
        tracing::error!("{problem}");
    }
    if let Some(warning) = now.warning.as_ref().filter(|_| now.warning != before.warning) {
        tracing::warn!("{warning}");
    }
    for skipped in now.skipped.iter().filter(|skipped| !before.skipped.contains(skipped)) {
        tracing::warn!(file = %skipped.file, reason = %skipped.reason, "file skipped");
    }
    for unsigned in now.unsigned.iter().filter(|unsigned| !before.unsigned.contains(unsigned)) {
        tracing::warn!(file = %unsigned.file, reason = %unsigned.reason, "a plugin runs without a trusted signature");
    }
}
