//! One host under load, killed again and again.

use std::time::{Duration, Instant};

use super::checks::{all_done_once, conserved};
use super::site::{Place, Random, Site, pace, until};
use crate::support::database::Kind;

const KILLS: u32 = 20;
/// Seconds of work, as fast as this machine does it; the kills take a part of it.
const WORK_SECONDS: u32 = 12;
const SHARE_OF_KILLS: f64 = 0.6;

pub async fn kill_nine_loses_nothing_and_repeats_nothing(kind: Kind) {
    let mut random = Random::new();
    let began = Instant::now();
    let pace = pace(kind).await;
    let items = pace * WORK_SECONDS;
    let site = Site::witness(kind, items).await;
    let place = site.place("one");
    kill_in_discovery(&site, &place, &mut random).await;

    // A life goes on for so long after its first result, on average.
    let life = Duration::from_secs(u64::from(WORK_SECONDS)).mul_f64(SHARE_OF_KILLS / f64::from(KILLS));
    let mut interrupted = 0;
    for kill in 1..=KILLS {
        let host = place.start().await;
        let before = site.resolved().await;
        conserved(&site.databases, random.seed).await;
        site.until_resolved_more_than(before).await;
        random.moment(life * 2).await;
        host.kill9().await;
        site.business_is_quiet().await;
        let running = running(&site).await;
        interrupted += u32::from(running > 0);
        let left = i64::from(items) - site.resolved().await;
        assert!(left > 0, "seed {}: all was done before kill {kill}: the kills need more items", random.seed);
    }
    let host = place.start().await;
    let all = i64::from(items);
    until("all items are resolved", async || site.resolved().await == all).await;
    until("the run is finished", async || {
        site.databases.store_number("SELECT COUNT(*) FROM run WHERE state <> 'finished'").await == 0
    })
    .await;
    host.terminate().await;
    let tally = all_done_once(&site.databases, items, random.seed).await;
    assert!(tally.lost > 0, "seed {}: no kill interrupted an attempt: this run proves nothing", random.seed);
    println!(
        "{kind:?}: {pace} items/s, {items} items, {KILLS} kills under load, {interrupted} of them with attempts running; \
         {tally}; {:.1} s",
        began.elapsed().as_secs_f64()
    );
}

async fn running(site: &Site) -> i64 {
    site.databases.store_number("SELECT COUNT(*) FROM item WHERE state = 'running'").await
}

/// Triggers the run and kills the host between two pages, once and again further on.
async fn kill_in_discovery(site: &Site, place: &Place, random: &mut Random) {
    let host = place.start().await;
    host.post("/api/v1/jobs/witness").await.unwrap();
    let page = "SELECT COUNT(*) FROM run WHERE page_cursor IS NOT NULL";
    until("a page was found", async || site.databases.store_number(page).await == 1).await;
    random.moment(Duration::from_millis(20)).await;
    host.kill9().await;
    site.business_is_quiet().await;
    let open = "SELECT COUNT(*) FROM run WHERE state = 'discovering' AND attempt_id IS NOT NULL";
    assert_eq!(
        site.databases.store_number(open).await,
        1,
        "seed {}: the discovery was too fast",
        random.seed
    );
    conserved(&site.databases, random.seed).await;
}
