//! `[audit]`: the archive of old audit records.

use std::path::Path;

use jiff::SignedDuration;

use super::keys::{self, Key, TIME_MIN, at_least};
use super::reader::Section;
use crate::archive::AuditConfig;

pub const KEYS: [Key<AuditConfig>; 3] = [
    keys::time!("retention", retention, |time| at_least(time, TIME_MIN)),
    keys::folder!("archive_dir", dir),
    keys::time!("every", every, |time| at_least(time, TIME_MIN)),
];

/// Without a retention, no records are archived.
pub fn read(mut section: Section<'_>, data_dir: &Path) -> Option<AuditConfig> {
    let is_archived = section.has("retention");
    let mut audit = AuditConfig {
        retention: SignedDuration::MAX,
        dir: data_dir.join("audit-archive"),
        every: SignedDuration::from_hours(24),
    };
    keys::read(&KEYS, &mut section, &mut audit);
    section.finish();
    is_archived.then_some(audit)
}
