//! The report of a scan.

use domain::plugin::PluginVersion;

/// The changes of one scan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanReport {
    pub activated: Vec<PluginVersion>,
    /// Canaries, and versions that wait for approval.
    pub on_trial: Vec<PluginVersion>,
    /// Rejected for the first time, or for a new reason.
    pub rejected: Vec<PluginVersion>,
    pub retired: Vec<PluginVersion>,
    pub unchanged: usize,
    /// A compilation is still in progress: [`crate::Sandbox::loaded`] resolves when to scan again.
    pub loading: bool,
    pub trouble: Trouble,
}

/// Problems of the last scan that do not belong to a version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Why the folder could not be read. In this case nothing was changed.
    pub problem: Option<String>,
    /// Advice to the admin about the folder. It does not affect the scan.
    pub warning: Option<String>,
    /// Files that were not read.
    pub skipped: Vec<Skipped>,
    /// Active files without a trusted signature.
    pub unsigned: Vec<Skipped>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    pub file: String,
    pub reason: String,
}
