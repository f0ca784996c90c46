//! `[server]`: the address of the page and the API, and the resources that their clients may use.

use std::net::SocketAddr;

use jiff::SignedDuration;

use super::error::Mistaken;
use super::keys::{self, Key, TIME_MIN};
use super::reader::{Located, Section};
use super::text::show_bytes;
use crate::http::HttpLimits;

pub const LISTEN_DEFAULT: &str = "127.0.0.1:7070";
const CONNECTIONS_MAX: u64 = 10_000;
const REQUESTS_MAX: u64 = 1_000;
const TIME_MAX: SignedDuration = SignedDuration::from_mins(10);
/// The smallest budget holds several JSON bodies of the maximum size.
const BUDGET_MIN: u64 = 4 << 20;
const BUDGET_MAX: u64 = 4 << 30;

pub const LIMIT_KEYS: [Key<HttpLimits>; 8] = [
    keys::count!("connections", connections, 1..=CONNECTIONS_MAX),
    keys::count!("connections_per_peer", connections_per_peer, 1..=CONNECTIONS_MAX),
    keys::count!("requests", requests, 1..=REQUESTS_MAX),
    keys::time!("head_time", head_time, time),
    keys::time!("body_time", body_time, time),
    keys::time!("stall_time", stall_time, time),
    keys::bytes!("bodies", bodies_bytes, budget),
    keys::bytes!("answers", answers_bytes, budget),
];

pub fn read(mut section: Section<'_>) -> (Option<SocketAddr>, HttpLimits) {
    let listen = match section.text("listen") {
        Some(found) => listen_address(&section, &found),
        None => LISTEN_DEFAULT.parse().ok(),
    };
    let limits = limits(section.section("limits"));
    section.finish();
    (listen, limits)
}

/// Only loopback addresses, because tokens protect writes and reads are open.
fn listen_address(section: &Section<'_>, found: &Located<String>) -> Option<SocketAddr> {
    let Ok(listen) = found.value.parse::<SocketAddr>() else {
        let what = format!("{:?} is not an address with a port", found.value);
        section.blame_found(found, what, format!("use {LISTEN_DEFAULT:?} or \"[::1]:7070\""));
        return None;
    };
    if !listen.ip().is_loopback() {
        let ip = listen.ip();
        let what = format!("{ip} can be reached by others, and reading needs no token");
        section.blame_found(found, what, "use 127.0.0.1 or [::1]");
        return None;
    }
    Some(listen)
}

fn limits(mut section: Section<'_>) -> HttpLimits {
    let mut limits = HttpLimits::DEFAULT;
    keys::read(&LIMIT_KEYS, &mut section, &mut limits);
    connections(&section, &mut limits);
    section.finish();
    limits
}

/// Requires some connections beyond those that are never closed, so that a new one can always be accepted.
fn connections(section: &Section<'_>, limits: &mut HttpLimits) {
    let (most, per_peer) = (section.given("connections"), section.given("connections_per_peer"));
    let kept = limits.kept();
    if let Some(found) = most.as_ref().filter(|_| limits.connections <= kept) {
        let what = format!("{} connections leave none for new clients", limits.connections);
        let remedy = format!("use more than {kept}: requests, streams and probes may keep so many");
        section.blame_found(found, what, remedy);
    }
    if let Some(found) = per_peer.as_ref().filter(|_| limits.connections_per_peer > limits.connections) {
        let what = format!("{} connections of one address are more than all", limits.connections_per_peer);
        section.blame_found(found, what, format!("use at most {}", limits.connections));
    }
    if most.is_none() && limits.connections <= kept {
        limits.connections = kept + HttpLimits::DEFAULT.connections;
    }
    if per_peer.is_none() {
        limits.connections_per_peer = limits.connections / 8 * 7;
    }
}

fn time(time: SignedDuration) -> Result<(), Mistaken> {
    if (TIME_MIN..=TIME_MAX).contains(&time) {
        return Ok(());
    }
    Err((format!("{time:#} is out of range"), format!("use \"{TIME_MIN:#}\" to \"{TIME_MAX:#}\"")))
}

fn budget(bytes: u64) -> Result<(), Mistaken> {
    if (BUDGET_MIN..=BUDGET_MAX).contains(&bytes) {
        return Ok(());
    }
    let remedy = format!("use \"{}\" to \"{}\"", show_bytes(BUDGET_MIN), show_bytes(BUDGET_MAX));
    Err((format!("{} is out of range", show_bytes(bytes)), remedy))
}
