//! `[plugins]`: the folder, the trusted signatures, and the release rules for new versions.

use std::path::PathBuf;
use std::time::Duration;

use domain::limits::MIB;
use domain::release::{Approval, Canary, ReleaseRules};
use jiff::SignedDuration;
use sandbox::LoadLimits;
use sandbox::versions::signature::{self, Policy, Signatures};

use super::error::Mistaken;
use super::keys::{self, Key, quoted};
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

const POLICIES: [(&str, Policy); 3] =
    [("off", Policy::Off), ("warn", Policy::Warn), ("required", Policy::Required)];

const APPROVALS: [(&str, Approval); 2] = [("off", Approval::Off), ("wider", Approval::Wider)];

const CEILING: LoadLimits = LoadLimits::CEILING;
const SIZE_MAX: u64 = CEILING.component_size as u64;

pub const KEYS: [Key<PluginsConfig>; 9] = [
    keys::folder!("dir", dir),
    keys::word!("signatures", signatures.policy, POLICIES),
    Key { name: "keys", read: read_keys, show: show_keys },
    keys::flag!("shared", shared),
    keys::word!("approval", release.approval, APPROVALS),
    keys::bytes!("component_size", load.component_size, |size| size_up_to(size, SIZE_MAX)),
    keys::time!("compile_time", load.compile_time, |time| time_up_to(time, CEILING.compile_time)),
    keys::bytes!("compile_memory", load.compile_memory, |size| size_up_to(size, CEILING.compile_memory)),
    keys::time!("describe_time", load.describe_time, |time| time_up_to(time, CEILING.describe_time)),
];

pub const CANARY_KEYS: [Key<Canary>; 6] = [
    keys::number!("share", share, 0.001..=1.0),
    keys::count!("promote_attempts", promote_attempts, 1..=1_000_000_000),
    keys::time!("promote_after", promote_after, positive),
    keys::number!("failures_margin", failures_margin, 0.0..=1.0),
    keys::number!("cost_margin", cost_margin, 0.0..=100.0),
    keys::count!("attempts_min", attempts_min, 1..=1_000_000_000),
];

pub fn read(mut section: Section<'_>) -> PluginsConfig {
    let mut plugins = PluginsConfig {
        dir: PathBuf::from("plugins"),
        signatures: Signatures::default(),
        shared: true,
        release: ReleaseRules::default(),
        load: LoadLimits::DEFAULT,
    };
    keys::read(&KEYS, &mut section, &mut plugins);
    plugins.release.canary = section.section_if("canary").map(canary);
    let unused = plugins.signatures.policy != Policy::Off && plugins.signatures.keys.is_empty();
    if let Some(found) = section.given("signatures").filter(|_| unused) {
        let remedy = "add keys = [\"RW…\"], from minisign.pub";
        section.blame_found(&found, "there is no key to verify signatures with", remedy);
    }
    section.finish();
    plugins
}

fn canary(mut section: Section<'_>) -> Canary {
    let mut canary = Canary::DEFAULT;
    keys::read(&CANARY_KEYS, &mut section, &mut canary);
    section.finish();
    canary
}

fn read_keys(section: &mut Section<'_>, plugins: &mut PluginsConfig) {
    for text in section.texts("keys") {
        match signature::Key::parse(&text.value) {
            Ok(key) => plugins.signatures.keys.push(key),
            Err(why) => {
                let what = format!("{:?} is no public key of minisign's: {why}", text.value);
                section.blame_found(&text, what, "copy the second line of minisign.pub");
            }
        }
    }
}

fn show_keys(plugins: &PluginsConfig) -> Option<String> {
    let keys: Vec<String> = plugins.signatures.keys.iter().map(quoted).collect();
    Some(format!("[{}]", keys.join(", ")))
}

fn size_up_to(size: u64, ceiling: u64) -> Result<(), Mistaken> {
    if (MIB as u64..=ceiling).contains(&size) {
        return Ok(());
    }
    let remedy = format!("use a size from \"1MiB\" to {:?}", show_bytes(ceiling));
    Err((format!("{} is out of range", show_bytes(size)), remedy))
}

/// At least one second, because the compiler's process takes its time limit in whole seconds.
fn time_up_to(time: SignedDuration, ceiling: Duration) -> Result<(), Mistaken> {
    if (Duration::from_secs(1)..=ceiling).contains(&time.unsigned_abs()) {
        return Ok(());
    }
    let remedy = format!("use a duration from \"1s\" to \"{}s\"", ceiling.as_secs());
    Err((format!("{time:#} is out of range"), remedy))
}

fn positive(time: SignedDuration) -> Result<(), Mistaken> {
    if time.is_positive() {
        return Ok(());
    }
    Err(("a version needs time to prove itself".to_owned(), "use \"15m\" or so".to_owned()))
}
