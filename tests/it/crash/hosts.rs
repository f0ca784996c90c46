//! R8: two hosts on one Postgres, every process killed.

use std::time::{Duration, Instant};

use super::checks::{all_done_once, conserved};
use super::site::{HostLocation, Site, pace};
use crate::support::database::{Kind, RUNNING};
use crate::support::process::Process;
use crate::support::random::Random;
use crate::support::wait::until;

const ROUNDS: u32 = 5;
/// Measured in the time that one host needs.
const WORK_SECONDS: u32 = 25;
const LIFE: Duration = Duration::from_millis(500);
/// A lease lasts 15 s and lost ones are checked every 5 s, plus reserve for a busy machine.
const TAKEN_OVER_AFTER_MAX: i64 = 20_000 + 2_000;

struct Pair {
    site: Site,
    places: [HostLocation; 2],
    random: Random,
    kills: u32,
}

pub async fn r8_every_process_killed_every_item_done_once() {
    let random = Random::new();
    let began = Instant::now();
    let items = pace(Kind::Postgres).await * WORK_SECONDS;
    let site = Site::witness(Kind::Postgres, items).await;
    let places = [site.place("one"), site.place("two")];
    let mut pair = Pair { site, places, random, kills: 0 };
    let seed = pair.random.seed;

    let mut hosts = pair.start().await;
    hosts[0].post("/api/v1/jobs/witness").await.unwrap();
    for _ in 0..ROUNDS {
        hosts = pair.round(hosts).await;
        conserved(&pair.site.databases, seed).await;
    }
    let killed_at = pair.kill_both_at_work(hosts).await;
    let (first, second) = (pair.places[0].id(), pair.places[1].id());
    let survivor = pair.places[0].start().await;
    assert_eq!(
        pair.running_before(&first, killed_at).await,
        0,
        "seed {seed}: its own work is put back at its start"
    );
    assert!(pair.running_before(&second, killed_at).await > 0, "seed {seed}: the other's leases still last");

    let site = &pair.site;
    until("the run is finished", async || site.finished().await).await;
    survivor.terminate().await;
    let tally = all_done_once(&site.databases, items, seed).await;
    let last = format!(
        "SELECT MAX(ended_at_ms) FROM attempt WHERE verdict = 'lost' AND host_id = '{second}' AND ended_at_ms > {killed_at}"
    );
    let taken_over_after = site.databases.store_number(&last).await - killed_at;
    assert!(taken_over_after < TAKEN_OVER_AFTER_MAX, "seed {seed}: taken over after {taken_over_after} ms");
    println!(
        "{items} items, {} kills; {tally}; the other's work was taken over after {taken_over_after} ms; {:.1} s",
        pair.kills,
        began.elapsed().as_secs_f64()
    );
}

impl Pair {
    async fn start(&self) -> [Process; 2] {
        let [one, two] = &self.places;
        let (one, two) = tokio::join!(one.start(), two.start());
        [one, two]
    }

    /// Waits until both hosts work, then kills and restarts one of them or both.
    async fn round(&mut self, hosts: [Process; 2]) -> [Process; 2] {
        self.both_work().await;
        self.random.moment(LIFE).await;
        let [one, two] = hosts;
        let which = self.random.below(3);
        self.kills += if which == 2 { 2 } else { 1 };
        match which {
            0 => {
                one.kill9().await;
                [self.places[0].start().await, two]
            }
            1 => {
                two.kill9().await;
                [one, self.places[1].start().await]
            }
            _ => {
                tokio::join!(one.kill9(), two.kill9());
                self.site.business_is_quiet().await;
                self.start().await
            }
        }
    }

    async fn both_work(&self) {
        let before = self.site.resolved().await;
        self.site.until_resolved_more_than(before).await;
        let ids = [self.places[0].id(), self.places[1].id()];
        for id in ids {
            let sql = format!("SELECT COUNT(*) FROM {RUNNING} WHERE host_id = '{id}'");
            until("this host is at work", async || self.site.databases.store_number(&sql).await > 0).await;
        }
    }

    /// Kills both while each holds items; returns the time in milliseconds since 1970.
    async fn kill_both_at_work(&mut self, mut hosts: [Process; 2]) -> i64 {
        for _ in 0..10 {
            self.both_work().await;
            let [one, two] = hosts;
            tokio::join!(one.kill9(), two.kill9());
            self.kills += 2;
            let killed_at = jiff::Timestamp::now().as_millisecond();
            self.site.business_is_quiet().await;
            let [first, second] = &self.places;
            let held = [
                self.running_before(&first.id(), killed_at).await,
                self.running_before(&second.id(), killed_at).await,
            ];
            if held.iter().all(|held| *held > 0) {
                return killed_at;
            }
            hosts = self.start().await;
        }
        panic!("seed {}: in ten tries the two never held items together", self.random.seed);
    }

    /// Number of items that this host has held since before `instant`.
    async fn running_before(&self, host: &str, instant: i64) -> i64 {
        let sql =
            format!("SELECT COUNT(*) FROM {RUNNING} WHERE host_id = '{host}' AND claimed_at_ms <= {instant}");
        self.site.databases.store_number(&sql).await
    }
}
