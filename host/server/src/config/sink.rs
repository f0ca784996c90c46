//! `[sinks.<name>]`: where events go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;

use super::reader::Section;

/// Where the events of some topics go.
#[derive(Debug, Clone)]
pub struct Sink {
    pub name: String,
    pub topics: Vec<String>,
    pub to: To,
    /// Tries before an event is given up.
    pub tries_max: u32,
    /// How long one try may take, in real time.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// The address that takes a POST of each event.
    Webhook(String),
    Table {
        datasource: String,
        table: String,
    },
}

const TRIES_DEFAULT: u32 = 10;
const TIMEOUT_DEFAULT: SignedDuration = SignedDuration::from_secs(10);
const TIMEOUT_MAX: SignedDuration = SignedDuration::from_mins(5);

/// All sinks; each topic goes to one of them at most.
pub fn read(sections: Vec<(String, Section<'_>)>, datasources: &BTreeSet<String>) -> Vec<Arc<Sink>> {
    let mut taken: BTreeMap<String, String> = BTreeMap::new();
    let mut sinks = Vec::new();
    for (name, section) in sections {
        if let Some(sink) = one(name, section, datasources, &mut taken) {
            sinks.push(Arc::new(sink));
        }
    }
    sinks
}

fn one(
    name: String,
    mut section: Section<'_>,
    datasources: &BTreeSet<String>,
    taken: &mut BTreeMap<String, String>,
) -> Option<Sink> {
    let mut topics = Vec::new();
    let found = section.texts("topics");
    if found.is_empty() {
        section.blame("topics", "the sink takes no topic", "name them, like topics = [\"LedgerPosting\"]");
    }
    for topic in found {
        match taken.insert(topic.value.clone(), name.clone()) {
            Some(other) => {
                let what = format!("topic {:?} goes to the sink {other:?} already", topic.value);
                section.blame_found(&topic, what, "name each topic once");
            }
            None => topics.push(topic.value),
        }
    }
    let to = to(&mut section, datasources);
    let tries = section.count("tries_max", 1..=1_000);
    let timeout = section.duration("timeout");
    if let Some(found) = &timeout
        && (found.value < SignedDuration::from_millis(1) || found.value > TIMEOUT_MAX)
    {
        let what = format!("{:#} is no time for one try", found.value);
        section.blame_found(found, what, format!("use 1ms to {TIMEOUT_MAX:#}"));
    }
    section.finish();
    let timeout = timeout.map_or(TIMEOUT_DEFAULT, |found| found.value);
    Some(Sink {
        name,
        topics,
        to: to?,
        tries_max: tries.map_or(TRIES_DEFAULT, |found| u32::try_from(found.value).unwrap_or(TRIES_DEFAULT)),
        timeout: timeout.unsigned_abs(),
    })
}

fn to(section: &mut Section<'_>, datasources: &BTreeSet<String>) -> Option<To> {
    let (webhook, table) = (section.text("webhook"), section.text("table"));
    let datasource = section.text("datasource");
    match (webhook, table) {
        (Some(webhook), None) => {
            if let Some(datasource) = datasource {
                section.blame_found(&datasource, "a webhook has no datasource", "remove it, or name a table");
            }
            if !["http://", "https://"].iter().any(|scheme| webhook.value.starts_with(scheme)) {
                let what = format!("{:?} is not an address that events can be sent to", webhook.value);
                section.blame_found(&webhook, what, "use https://… or http://…");
                return None;
            }
            Some(To::Webhook(webhook.value))
        }
        (None, Some(table)) => {
            if !is_identifier(&table.value) {
                let what = format!("{:?} is not a table's name", table.value);
                section.blame_found(&table, what, "use a-z, 0-9 and _, like \"event_inbox\"");
                return None;
            }
            let Some(datasource) = datasource else {
                section.blame("datasource", "the table stands in no datasource", "add datasource = \"name\"");
                return None;
            };
            if !datasources.contains(&datasource.value) {
                let what = format!("there is no datasource {:?}", datasource.value);
                section.blame_found(
                    &datasource,
                    what,
                    format!("add [datasources.{}] with its url", datasource.value),
                );
                return None;
            }
            Some(To::Table { datasource: datasource.value, table: table.value })
        }
        _ => {
            section.blame(
                "",
                "it says not where events go, or says it twice",
                "give webhook, or table and datasource",
            );
            None
        }
    }
}

/// It becomes part of a statement.
fn is_identifier(text: &str) -> bool {
    let start = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    start
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
