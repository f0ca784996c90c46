//! When the faults are over and the customers have gone, all open work has to end: automatically, or through
//! a person where the hosts left it to one.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::town::Town;

/// Real time, longer than the longest pause between two tries: an hour of the clock at the lowest speed.
const TIME_MAX: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(500);
/// The simulated person acts every few checks.
const LOOKS_BY_HAND: u32 = 6;

/// Unfinished work at the hosts, except jobs without an end and records that a person has to judge.
const OPEN_ITEMS: &str = "SELECT job || '/' || item_key || ' is ' || state FROM item
    WHERE state NOT IN ('resolved', 'abandoned') AND item_key <> 'run'
    AND NOT (job = 'batch-compensation' AND state = 'manual_required')
    UNION ALL SELECT 'event ' || id || ' of ' || topic || COALESCE(': ' || error, '') FROM event WHERE delivered_at_ms IS NULL";
const OPEN_BUSINESS: &str = "SELECT 'user ' || user_id FROM user_account u
        WHERE (SELECT COUNT(*) FROM wallet_address w WHERE w.user_id = u.user_id) < 3
    UNION ALL SELECT 'order ' || order_id || ' is ' || status FROM split_order WHERE status <> 'finalized'
    UNION ALL SELECT 'posting ' || posting_key FROM ledger_outbox WHERE status = 'pending'
    UNION ALL SELECT 'campaign ' || campaign_id FROM campaign WHERE active = 1 AND stock < stock_min
    UNION ALL SELECT 'lease ' || lease_id FROM stock_lease WHERE status = 'held'";
const LEFT_TO_A_PERSON: &str = "SELECT job || '/' || item_key FROM item
    WHERE state = 'manual_required' AND job <> 'batch-compensation'";
const DEAD: &str = "SELECT COUNT(*) FROM event WHERE dead_at_ms IS NOT NULL AND delivered_at_ms IS NULL";

/// Lists all open work.
pub async fn open(town: &Town) -> Vec<String> {
    let mut open = town.databases.store_texts(OPEN_ITEMS).await;
    open.extend(town.databases.business_texts(OPEN_BUSINESS).await);
    open
}

/// Returns the number of items that were retried manually.
pub async fn settle(town: &Town) -> usize {
    town.databases.business("UPDATE payout_account SET state = 'open'").await;
    let (began, mut manual) = (Instant::now(), 0);
    for look in 1_u32.. {
        let left = open(town).await;
        if left.is_empty() || began.elapsed() > TIME_MAX {
            break;
        }
        if look % LOOKS_BY_HAND == 0 {
            eprintln!("{} are open, say {}", left.len(), left[0]);
            manual += lend_a_hand(town).await;
        }
        // tidy: sleep because another process gives no signal of its progress
        sleep(LOOK).await;
    }
    eprintln!("settled {:.1} s after the last fault", began.elapsed().as_secs_f64());
    manual
}

/// Acts as the person: the causes are gone, so every item left for a person is retried.
async fn lend_a_hand(town: &Town) -> usize {
    let left = town.databases.store_texts(LEFT_TO_A_PERSON).await;
    for item in &left {
        town.ask_anyone(&format!("/api/v1/items/{item}/retry"), json!({ "notes": "the trial is over" }))
            .await;
    }
    if town.databases.store_number(DEAD).await > 0 {
        town.ask_anyone("/api/v1/outbox/redrive", json!({})).await;
    }
    left.len()
}
