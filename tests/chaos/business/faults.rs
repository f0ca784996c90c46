//! The faults of the trial: killed hosts, ended sessions, misbehaving services, replaced plugins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use demo::Mood;
use demo::services::NAMES;
use sqlx::{Connection, PgConnection};
use test_support::postgres_url;
use tokio::time::{Instant, sleep, timeout_at};

use super::town::Town;
use crate::support::plugins;
use crate::support::process::Process;
use crate::support::random::Random;

/// A lease lasts 15 s and lost ones are checked every 5 s: by then the other host has taken over.
const TAKEN_OVER_AFTER: Duration = Duration::from_secs(22);
const BETWEEN_KILLS: Duration = Duration::from_secs(5);
const MOOD_MIN_MS: u64 = 2_500;
const MOOD_SPREAD_MS: u64 = 3_500;
const BETWEEN_SWAPS: Duration = Duration::from_secs(4);
const BETWEEN_ENDED: Duration = Duration::from_secs(7);
const SESSIONS: usize = 3;
const BETWEEN_CUTS: Duration = Duration::from_secs(3);
/// COMMITs whose answers each host loses in a row on each of its lines, if it sends as many in time.
const CUTS: u32 = 2;
const RUBBISH: &[u8] = b"this is no component";

/// How often each fault occurred, by its name in the report.
pub type Fired = BTreeMap<&'static str, u64>;

/// The moods that services are put into, by name.
pub const MOODS: [(&str, Mood); 6] = [
    ("service_fails", Mood::Fails),
    ("service_refuses", Mood::Refuses),
    ("service_rubbish", Mood::Rubbish),
    ("service_closes", Mood::Closes),
    ("service_hangs", Mood::Hangs),
    ("answer_lost", Mood::Loses),
];

/// The two hosts' processes.
pub struct Hosts {
    town: Arc<Town>,
    processes: Vec<Process>,
    pub killed: u64,
}

impl Hosts {
    pub async fn start(town: Arc<Town>) -> Hosts {
        let mut processes = Vec::new();
        for place in &town.places {
            processes.push(place.start().await);
        }
        Hosts { town, processes, killed: 0 }
    }

    /// Kills one of the hosts with `kill -9`, and restarts it soon or after the other has taken over.
    pub async fn torment(&mut self, until: Instant, random: &mut Random) {
        while go_on(BETWEEN_KILLS, until).await {
            let which = random.below(2) as usize;
            let away = [Duration::from_millis(random.below(2_000)), TAKEN_OVER_AFTER];
            let away = away[usize::from(self.killed % 3 == 1)];
            eprintln!("kill9 {}, away for {away:?}", self.town.places[which].name);
            self.processes[which].child.kill().await.unwrap();
            self.killed += 1;
            // tidy: sleep because the host is away for a time
            sleep(away).await;
            self.processes[which] = self.town.places[which].start().await;
        }
    }

    /// Sends SIGTERM to both; each has to end with success.
    pub async fn end(self) {
        for process in self.processes {
            process.terminate().await;
        }
    }
}

/// Puts a service into one mood after the other, at its own pace; it works in between and at the end.
pub async fn moods(town: Arc<Town>, service: &'static str, until: Instant, mut random: Random) {
    let time = |random: &mut Random| Duration::from_millis(MOOD_MIN_MS + random.below(MOOD_SPREAD_MS));
    let mut first = random.below(MOODS.len() as u64) as usize;
    while go_on(time(&mut random) / 2, until).await {
        let (_, mood) = MOODS[first % MOODS.len()];
        first += 1;
        town.set_mood(service, mood);
        go_on(time(&mut random), until).await;
        town.set_mood(service, Mood::Well);
    }
    town.set_mood(service, Mood::Well);
}

/// Writes new files for the same jobs, each a new version; now and then one that is not a component.
pub async fn swaps(town: Arc<Town>, until: Instant, mut random: Random) -> u64 {
    let mut swapped = 0_u64;
    while go_on(BETWEEN_SWAPS, until).await {
        let job = demo::JOBS[random.below(demo::JOBS.len() as u64) as usize];
        if swapped % 3 == 1 {
            replace(&town, job, RUBBISH);
            go_on(BETWEEN_SWAPS / 2, until).await;
        }
        swapped += 1;
        replace(&town, job, &another(job, swapped));
    }
    swapped
}

/// The same component with a note at its end, so the file and its digest differ.
fn another(job: &str, number: u64) -> Vec<u8> {
    let mut bytes = std::fs::read(plugins::file(job)).unwrap();
    let note = format!("\u{5}trial{number:06}");
    // A custom section: its kind, its length, the length of its name, its name and its content.
    bytes.extend([0, u8::try_from(note.len()).unwrap()]);
    bytes.extend(note.as_bytes());
    bytes
}

/// Replaces the file by rename, so that it is never half written.
fn replace(town: &Town, job: &str, bytes: &[u8]) {
    let draft = town.plugins().join(".draft");
    std::fs::write(&draft, bytes).unwrap();
    std::fs::rename(&draft, town.plugins().join(format!("{job}.wasm"))).unwrap();
}

/// Ends some sessions of the hosts every few seconds, as an administrator would.
pub async fn sessions(until: Instant) -> u64 {
    let mut ended = 0;
    let mut admin = PgConnection::connect(&postgres_url()).await.unwrap();
    while go_on(BETWEEN_ENDED, until).await {
        let some = format!(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity
                WHERE application_name LIKE 'tidemill%' ORDER BY random() LIMIT {SESSIONS}) AS chosen"
        );
        let done: Vec<bool> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(some)).fetch_all(&mut admin).await.unwrap();
        ended += done.iter().filter(|done| **done).count() as u64;
    }
    ended
}

/// Postgres carries these COMMITs out, but the hosts never receive the answers.
pub async fn cuts(town: Arc<Town>, until: Instant) {
    let mut count = CUTS;
    while go_on(BETWEEN_CUTS, until).await {
        order_cuts(&town, count);
        count = CUTS - count;
    }
    order_cuts(&town, 0);
}

fn order_cuts(town: &Town, count: u32) {
    for place in &town.places {
        place.wire.store.cut_commits(count);
        place.wire.business.cut_commits(count);
    }
}

/// Counts the faults, from the services and the hosts' own history.
pub async fn fired(town: &Town, killed: u64, sessions: u64) -> Fired {
    let versions = |state: &str| format!("SELECT COUNT(*) FROM plugin_version WHERE state {state}");
    let rejected = town.databases.store_number(&versions("= 'rejected'")).await;
    let accepted = town.databases.store_number(&versions("<> 'rejected'")).await;
    let mut fired: Fired = MOODS.map(|(name, mood)| (name, town.met_anywhere(mood) as u64)).into();
    let swapped = u64::try_from(accepted).unwrap().saturating_sub(demo::JOBS.len() as u64);
    fired.extend([("kill9", killed), ("backend_terminated", sessions), ("plugin_swapped", swapped)]);
    fired.insert("plugin_rejected", u64::try_from(rejected).unwrap());
    let wires = || town.places.iter().map(|place| &place.wire);
    fired.insert("store_commit_cut", wires().map(|wire| wire.store.cut()).sum());
    fired.insert("business_commit_cut", wires().map(|wire| wire.business.cut()).sum());
    for service in NAMES {
        let met: Vec<String> =
            MOODS.iter().map(|(name, mood)| format!("{name} {}", town.met(service, *mood))).collect();
        eprintln!("{service} met {}", met.join(", "));
    }
    fired
}

/// Whether time is left after this pause.
async fn go_on(pause: Duration, until: Instant) -> bool {
    // tidy: sleep because faults come at moments that no event announces
    timeout_at(until, sleep(pause)).await.is_ok()
}
