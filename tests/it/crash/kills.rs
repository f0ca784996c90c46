//! One host under load, killed repeatedly.

use std::time::{Duration, Instant};

use super::checks::{Tally, all_done_once, conserved};
use super::site::{HostLocation, Site, pace};
use crate::support::database::Kind;
use crate::support::random::Random;
use crate::support::wait::until;

const KILLS: u32 = 20;
/// Seconds of work, at this machine's speed at the start of the test.
const WORK_SECONDS: u32 = 12;
/// Each kill comes at a random moment within this time after the awaited item.
const MOMENT: Duration = Duration::from_millis(30);

pub async fn r2_r3_kill_nine_loses_nothing_and_repeats_nothing(kind: Kind) {
    let items = pace(kind).await * WORK_SECONDS;
    killed_again_and_again(Site::witness(kind, items).await, items).await;
}

/// Writes to the host's own Postgres are committed with the item's outcome: no kill comes between the two.
pub async fn the_hosts_own_postgres_commits_both_at_once() {
    let items = pace(Kind::Postgres).await * WORK_SECONDS;
    let tally = killed_again_and_again(Site::witness_beside(items).await, items).await;
    assert_eq!(tally.cut_between_commits, 0);
}

async fn killed_again_and_again(site: Site, items: u32) -> Tally {
    let mut random = Random::new();
    let began = Instant::now();
    let place = site.place("one");
    kill_in_discovery(&site, &place, &mut random).await;

    let mut interrupted = 0;
    for kill in 1..=KILLS {
        let host = place.start().await;
        conserved(&site.databases, random.seed).await;
        // Kills are spaced by items, not by time, so that a faster machine leaves items for later kills.
        let before = site.resolved().await;
        let share = (i64::from(items) - before) * 4 / 5 / i64::from(KILLS - kill + 1);
        let some = i64::try_from(random.below(share.max(1).unsigned_abs())).unwrap();
        site.until_resolved_more_than(before + some).await;
        random.moment(MOMENT).await;
        host.kill9().await;
        site.business_is_quiet().await;
        interrupted += u32::from(site.running().await > 0);
        let left = i64::from(items) - site.resolved().await;
        assert!(left > 0, "seed {}: all was done before kill {kill}: the kills need more items", random.seed);
    }
    let host = place.start().await;
    until("the run is finished", async || site.finished().await).await;
    host.terminate().await;
    let tally = all_done_once(&site.databases, items, random.seed).await;
    assert!(tally.lost > 0, "seed {}: no kill interrupted an attempt: this run proves nothing", random.seed);
    println!(
        "{:?}: {items} items, {KILLS} kills under load, {interrupted} of them with attempts running; {tally}; {:.1} s",
        site.databases.kind,
        began.elapsed().as_secs_f64()
    );
    tally
}

/// Triggers the run and kills the host between two pages, or in the middle of one.
async fn kill_in_discovery(site: &Site, place: &HostLocation, random: &mut Random) {
    let host = place.start().await;
    host.post("/api/v1/jobs/witness").await.unwrap();
    let page = "SELECT COUNT(*) FROM run WHERE page_cursor IS NOT NULL";
    until("a page was found", async || site.databases.store_number(page).await == 1).await;
    random.moment(Duration::from_millis(20)).await;
    host.kill9().await;
    site.business_is_quiet().await;
    let open = "SELECT COUNT(*) FROM run WHERE state = 'discovering' AND claim_id IS NOT NULL";
    assert_eq!(
        site.databases.store_number(open).await,
        1,
        "seed {}: the discovery was too fast",
        random.seed
    );
    conserved(&site.databases, random.seed).await;
}
