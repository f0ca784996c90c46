//! `[log]`: the format and the filter of the log.

use super::error::Mistaken;
use super::keys::{self, Key};
use super::reader::Section;
use crate::telemetry::{self, LogConfig, LogFormat};

const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

pub const KEYS: [Key<LogConfig>; 2] =
    [keys::word!("format", format, FORMATS), keys::text!("filter", filter, |filter| check_filter(filter))];

pub fn read(mut section: Section<'_>) -> LogConfig {
    let mut log = LogConfig::default();
    keys::read(&KEYS, &mut section, &mut log);
    section.finish();
    log
}

fn check_filter(filter: &str) -> Result<(), Mistaken> {
    let remedy = "use a level like \"info\", or \"info,engine=debug\"";
    telemetry::check_filter(filter).map_err(|what| (what, remedy.to_owned()))
}
