//! `[server.limits]`: the resources that clients of the page and the API may use.

use std::time::Duration;

use jiff::SignedDuration;

use super::reader::Section;
use crate::http::HttpLimits;

const CONNECTIONS_MAX: u64 = 10_000;
const REQUESTS_MAX: u64 = 1_000;
const TIME_MIN: SignedDuration = SignedDuration::from_millis(100);
const TIME_MAX: SignedDuration = SignedDuration::from_mins(10);
/// The smallest budget holds several JSON bodies of the maximum size.
const BUDGET_MIN: u64 = 4 << 20;
const BUDGET_MAX: u64 = 4 << 30;

pub fn read(mut section: Section<'_>) -> HttpLimits {
    let mut limits = HttpLimits::DEFAULT;
    if let Some(found) = section.count("requests", 1..=REQUESTS_MAX) {
        limits.requests = usize::try_from(found.value).unwrap_or(limits.requests);
    }
    connections(&mut section, &mut limits);
    let times = [
        ("head_time", &mut limits.head_time),
        ("body_time", &mut limits.body_time),
        ("stall_time", &mut limits.stall_time),
    ];
    for (key, time) in times {
        *time = self::time(&mut section, key).unwrap_or(*time);
    }
    let budgets = [("bodies", &mut limits.bodies_bytes), ("answers", &mut limits.answers_bytes)];
    for (key, budget) in budgets {
        *budget = self::budget(&mut section, key).unwrap_or(*budget);
    }
    section.finish();
    limits
}

/// Requires some connections beyond those that are never closed, so that a new one can always be accepted.
fn connections(section: &mut Section<'_>, limits: &mut HttpLimits) {
    let most = section.count("connections", 1..=CONNECTIONS_MAX);
    let per_peer = section.count("connections_per_peer", 1..=CONNECTIONS_MAX);
    let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    if let Some(found) = &most {
        let kept = limits.kept();
        if size(found.value) <= kept {
            let what = format!("{} connections leave none for new clients", found.value);
            let remedy = format!("use more than {kept}: requests, streams and probes may keep so many");
            section.blame_found(found, what, remedy);
        }
        limits.connections = size(found.value);
    }
    limits.connections_per_peer = limits.connections / 8 * 7;
    if let Some(found) = &per_peer {
        if size(found.value) > limits.connections {
            let what = format!("{} connections of one address are more than all", found.value);
            section.blame_found(found, what, format!("use at most {}", limits.connections));
        }
        limits.connections_per_peer = size(found.value);
    }
    if most.is_none() && limits.connections <= limits.kept() {
        limits.connections = limits.kept() + HttpLimits::DEFAULT.connections;
        limits.connections_per_peer = per_peer.map_or(limits.connections / 8 * 7, |found| size(found.value));
    }
}

fn time(section: &mut Section<'_>, key: &'static str) -> Option<Duration> {
    let found = section.duration(key)?;
    if !(TIME_MIN..=TIME_MAX).contains(&found.value) {
        let remedy = format!("use \"{TIME_MIN:#}\" to \"{TIME_MAX:#}\"");
        section.blame_found(&found, format!("{:#} is out of range", found.value), remedy);
        return None;
    }
    Duration::try_from(found.value).ok()
}

fn budget(section: &mut Section<'_>, key: &'static str) -> Option<usize> {
    let found = section.bytes(key)?;
    if !(BUDGET_MIN..=BUDGET_MAX).contains(&found.value) {
        let show = super::text::show_bytes;
        let remedy = format!("use \"{}\" to \"{}\"", show(BUDGET_MIN), show(BUDGET_MAX));
        section.blame_found(&found, format!("{} is out of range", show(found.value)), remedy);
        return None;
    }
    usize::try_from(found.value).ok()
}
