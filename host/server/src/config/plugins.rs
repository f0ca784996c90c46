//! `[plugins]`: the folder, the trusted signatures, and the release rules for new versions.

use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::limits::MIB;
use domain::release::{Approval, Canary, ReleaseRules};
use sandbox::LoadLimits;
use sandbox::versions::signature::{Key, Policy, Signatures};

use super::reader::Section;
use super::text::show_bytes;

#[derive(Debug, Clone)]
pub struct PluginsConfig {
    pub dir: PathBuf,
    pub signatures: Signatures,
    /// With Postgres, a version found by one host runs on all hosts.
    pub shared: bool,
    pub release: ReleaseRules,
    pub load: LoadLimits,
}

pub const POLICIES: [(&str, Policy); 3] =
    [("off", Policy::Off), ("warn", Policy::Warn), ("required", Policy::Required)];

pub const APPROVALS: [(&str, Approval); 2] = [("off", Approval::Off), ("wider", Approval::Wider)];

pub fn read(mut section: Section<'_>, folder: &Path) -> PluginsConfig {
    let dir = section.path("dir", Path::new("plugins"), folder);
    let signatures = signatures(&mut section);
    let shared = section.flag("shared").is_none_or(|found| found.value);
    let approval = section.word("approval", &APPROVALS).map(|found| found.value).unwrap_or_default();
    let canary = section.section_if("canary").map(canary);
    let load = load_limits(&mut section);
    section.finish();
    PluginsConfig { dir, signatures, shared, release: ReleaseRules { approval, canary }, load }
}

/// Limits for loading and compiling a plugin's file.
fn load_limits(section: &mut Section<'_>) -> LoadLimits {
    let (default, ceiling) = (LoadLimits::DEFAULT, LoadLimits::CEILING);
    let size =
        size_or(section, "component_size", default.component_size as u64, ceiling.component_size as u64);
    LoadLimits {
        component_size: usize::try_from(size).unwrap_or(default.component_size),
        compile_time: time_or(section, "compile_time", default.compile_time, ceiling.compile_time),
        compile_memory: size_or(section, "compile_memory", default.compile_memory, ceiling.compile_memory),
        describe_time: time_or(section, "describe_time", default.describe_time, ceiling.describe_time),
    }
}

fn size_or(section: &mut Section<'_>, key: &'static str, default: u64, ceiling: u64) -> u64 {
    let Some(found) = section.bytes(key) else { return default };
    if !(MIB as u64..=ceiling).contains(&found.value) {
        let remedy = format!("use a size from \"1MiB\" to {:?}", show_bytes(ceiling));
        section.blame_found(&found, format!("{} is out of range", show_bytes(found.value)), remedy);
        return default;
    }
    found.value
}

/// At least one second, because the compiler's process takes its time limit in whole seconds.
fn time_or(section: &mut Section<'_>, key: &'static str, default: Duration, ceiling: Duration) -> Duration {
    let Some(found) = section.duration(key) else { return default };
    let time = found.value.unsigned_abs();
    if !(Duration::from_secs(1)..=ceiling).contains(&time) {
        let remedy = format!("use a duration from \"1s\" to \"{}s\"", ceiling.as_secs());
        section.blame_found(&found, format!("{:#} is out of range", found.value), remedy);
        return default;
    }
    time
}

fn signatures(section: &mut Section<'_>) -> Signatures {
    let policy = section.word("signatures", &POLICIES);
    let mut keys = Vec::new();
    for text in section.texts("keys") {
        match Key::parse(&text.value) {
            Ok(key) => keys.push(key),
            Err(why) => {
                let what = format!("{:?} is no public key of minisign's: {why}", text.value);
                section.blame_found(&text, what, "copy the second line of minisign.pub");
            }
        }
    }
    if let Some(found) = policy.as_ref().filter(|found| found.value != Policy::Off && keys.is_empty()) {
        let remedy = "add keys = [\"RW…\"], from minisign.pub";
        section.blame_found(found, "there is no key to verify signatures with", remedy);
    }
    Signatures { policy: policy.map(|found| found.value).unwrap_or_default(), keys }
}

fn canary(mut section: Section<'_>) -> Canary {
    let mut canary = Canary::DEFAULT;
    let numbers = [
        ("share", 0.001..=1.0, &mut canary.share),
        ("failures_margin", 0.0..=1.0, &mut canary.failures_margin),
        ("cost_margin", 0.0..=100.0, &mut canary.cost_margin),
    ];
    for (key, range, number) in numbers {
        *number = section.number(key, range).map_or(*number, |found| found.value);
    }
    let counts =
        [("promote_attempts", &mut canary.promote_attempts), ("attempts_min", &mut canary.attempts_min)];
    for (key, count) in counts {
        *count = section.count(key, 1..=1_000_000_000).map_or(*count, |found| found.value);
    }
    if let Some(found) = section.duration("promote_after") {
        if !found.value.is_positive() {
            section.blame_found(&found, "a version needs time to prove itself", "use \"15m\" or so");
        }
        canary.promote_after = found.value;
    }
    section.finish();
    canary
}
