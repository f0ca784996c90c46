//! `[engine]`: times and memory of the engine that can be configured.

use ::engine::EngineConfig;
use jiff::SignedDuration;

use super::error::Mistaken;
use super::keys::{self, Key, TIME_MIN, at_least, quoted};
use super::memory::Machine;
use super::reader::Section;
use super::text::show_bytes;

pub const KEYS: [Key<EngineConfig>; 5] = [
    keys::time!("recovery_every", recovery_period, |time| at_least(time, TIME_MIN)),
    keys::time!("hosts_kept", hosts_kept, hosts_kept),
    keys::time!("history_kept", history_kept, |time| at_least(time, TIME_MIN)),
    keys::time!("alerts_kept", alerts_kept, |time| at_least(time, TIME_MIN)),
    Key { name: "memory", read: read_memory, show: show_memory },
];

pub fn read(mut section: Section<'_>, host_name: &str) -> EngineConfig {
    let mut config = EngineConfig::new(host_name);
    keys::read(&KEYS, &mut section, &mut config);
    section.finish();
    config
}

/// A host that is alive renews its leases several times in the minimum.
fn hosts_kept(time: SignedDuration) -> Result<(), Mistaken> {
    at_least(time, EngineConfig::new("").lease_ttl * 4)
}

/// The default depends on the machine.
fn read_memory(section: &mut Section<'_>, config: &mut EngineConfig) {
    let (bytes, from) = match section.bytes("memory") {
        Some(found) => (found.value, None),
        None => {
            let machine = Machine::this();
            (machine.for_guests(), Some(machine.source))
        }
    };
    config.memory_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    config.memory_from = from;
}

fn show_memory(config: &EngineConfig) -> Option<String> {
    let memory = quoted(show_bytes(config.memory_bytes as u64));
    Some(match &config.memory_from {
        Some(from) => format!("{memory}  # unless given, from {from}"),
        None => memory,
    })
}
