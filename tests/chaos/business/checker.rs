//! Checks each promise once the system is idle, with SQL that is independent of the hosts' SQL.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::town::Town;
use super::{records, settling};
use crate::support::invariants::VIOLATIONS;

/// A condition, with the number of rows that it covers.
pub struct Check {
    pub name: &'static str,
    pub of: usize,
    /// The rows that do not meet it.
    pub wrong: Vec<String>,
}

impl Check {
    pub fn new(name: &'static str, of: usize, wrong: Vec<String>) -> Check {
        Check { name, of, wrong }
    }
}

/// The numbers of the report, in its order.
pub type Figures = Vec<(&'static str, i64)>;

/// The condition, the SQL that counts the rows it covers, and the SQL that lists the rows that break it.
/// `xmin` is the transaction that last wrote a row.
const BUSINESS: [(&str, &str, &str); 9] = [
    (
        "every wallet is complete",
        "SELECT COUNT(*) FROM user_account",
        "SELECT CAST(user_id AS TEXT) FROM user_account u
            WHERE (SELECT COUNT(DISTINCT chain) FROM wallet_address w WHERE w.user_id = u.user_id) <> 3",
    ),
    (
        "every order is finalized",
        "SELECT COUNT(*) FROM split_order",
        "SELECT order_id || ' is ' || status FROM split_order WHERE status <> 'finalized' OR ledger_posted <> 1
            OR paid_out <> 1 OR finalize_in_progress <> 0",
    ),
    (
        "each order's ledger step and payout were done once",
        "SELECT COUNT(*) FROM order_begun",
        "SELECT b.order_id || ': ' || COUNT(*) FILTER (WHERE step = 'posted') || ' postings, '
                || COUNT(*) FILTER (WHERE step = 'paid') || ' payouts'
            FROM order_begun b LEFT JOIN order_step s ON s.order_id = b.order_id GROUP BY b.order_id
            HAVING COUNT(*) FILTER (WHERE step = 'posted') <> 1 - MIN(posted)
                OR COUNT(*) FILTER (WHERE step = 'paid') <> 1 - MIN(paid)",
    ),
    (
        "each order has its posting, of its amount, published",
        "SELECT COUNT(*) FROM order_begun WHERE paid = 0",
        "SELECT CAST(o.order_id AS TEXT) FROM split_order o JOIN order_begun b ON b.order_id = o.order_id
            WHERE b.paid = 0 AND 1 <> (SELECT COUNT(*) FROM ledger_outbox p WHERE p.order_id = o.order_id
                AND p.posting_key = 'order-' || o.order_id AND p.amount_minor = o.amount_minor
                AND p.account = o.account AND p.status = 'published')",
    ),
    (
        "each order was reported final once",
        "SELECT COUNT(*) FROM order_begun WHERE paid = 0",
        "SELECT CAST(b.order_id AS TEXT) FROM order_begun b WHERE 1 - b.paid <> (SELECT COUNT(*) FROM event_inbox e
            WHERE e.topic = 'SplitOrderFinalized' AND e.event_key = CAST(b.order_id AS TEXT))",
    ),
    (
        "each change of stock has one cause, of as many units",
        "SELECT COUNT(*) FROM stock_change",
        "SELECT 'campaign ' || campaign_id || ' from ' || units_before || ' to ' || units_after FROM stock_change c
            WHERE 1 <> (SELECT COUNT(*) FROM cause WHERE cause.xid = CAST(c.xmin AS TEXT)
                AND cause.campaign_id = c.campaign_id AND cause.units = c.units_after - c.units_before)",
    ),
    (
        "each sale, refill, return and compensation changed the stock once",
        "SELECT COUNT(*) FROM cause",
        "SELECT why || ' of campaign ' || campaign_id FROM cause WHERE 1 <> (SELECT COUNT(*) FROM stock_change c
            WHERE CAST(c.xmin AS TEXT) = cause.xid AND c.campaign_id = cause.campaign_id)",
    ),
    (
        "no campaign was replenished that was not low",
        "SELECT COUNT(*) FROM stock_batch",
        "SELECT batch_id || ' of campaign ' || b.campaign_id FROM stock_batch b WHERE 1 <> (
            SELECT COUNT(*) FROM stock_change c WHERE c.xmin = b.xmin AND c.campaign_id = b.campaign_id
                AND c.units_before < c.units_min)",
    ),
    (
        "each lease was confirmed or given back",
        "SELECT COUNT(*) FROM stock_lease",
        "SELECT lease_id || ' is ' || status FROM stock_lease WHERE status NOT IN ('confirmed', 'expired')",
    ),
];

/// The cause of each change of stock.
const CAUSES: &str = "CREATE VIEW cause AS
    SELECT 'sale' AS why, CAST(xmin AS TEXT) AS xid, campaign_id, -units AS units FROM taken
    UNION ALL SELECT 'refill', CAST(xmin AS TEXT), campaign_id, units FROM stock_batch
    UNION ALL SELECT 'return', CAST(xmin AS TEXT), campaign_id, units FROM stock_lease WHERE status = 'expired'
    UNION ALL SELECT 'compensation', CAST(c.xmin AS TEXT), h.campaign_id, h.units FROM compensation c
        JOIN handed_in h ON h.record_key = c.record_key";

/// The conditions on the trail of the witness's items that hold for the items of every job.
const TRAIL: [&str; 3] = [
    "claims that no attempt accounts for",
    "two attempts under one claim",
    "lost without a line in the trail",
];

pub async fn check(town: &Town, ended_at: Timestamp) -> Vec<Check> {
    town.databases.business(CAUSES).await;
    let mut checks = vec![Check::new("nothing is open", 0, settling::open(town).await)];
    for (name, of, wrong) in BUSINESS {
        let of = usize::try_from(town.databases.business_number(of).await).unwrap();
        checks.push(Check::new(name, of, town.databases.business_texts(wrong).await));
    }
    checks.push(needs(town).await);
    checks.extend(events(town).await);
    checks.push(records::check(town).await);
    checks.push(reports(town, ended_at).await);
    for (what, sql) in VIOLATIONS.iter().filter(|(what, _)| TRAIL.contains(what)) {
        let attempts = town.databases.store_number("SELECT COUNT(*) FROM attempt").await;
        let wrong = town.databases.store_texts(sql).await;
        let name =
            ["no claim without an attempt", "no two attempts under one claim", "no loss without a trace"];
        let at = TRAIL.iter().position(|known| known == what).unwrap();
        checks.push(Check::new(name[at], usize::try_from(attempts).unwrap(), wrong));
    }
    let ran = "SELECT DISTINCT job FROM attempt WHERE verdict = 'resolved'";
    let ran: BTreeSet<String> = town.databases.store_texts(ran).await.into_iter().collect();
    let silent = demo::JOBS.iter().filter(|job| !ran.contains(**job)).map(|job| (*job).to_owned());
    checks.push(Check::new("each job has done something", demo::JOBS.len(), silent.collect()));
    checks
}

/// Compares the producer's record with the business's: each quantity produced for a need is booked once. The
/// last one of each campaign may be produced and not booked, if its answer was lost and the campaign was no
/// longer low at the retry.
async fn needs(town: &Town) -> Check {
    let made = town.services.all.stock.made();
    let booked = "SELECT batch_id || ' ' || campaign_id || ' ' || units FROM stock_batch";
    let booked = town.databases.business_texts(booked).await;
    let mut known = BTreeSet::new();
    let mut waiting: BTreeMap<i64, u32> = BTreeMap::new();
    for one in &made {
        let row = format!("{} {} {}", one.batch_id, one.campaign_id, one.units);
        if !booked.contains(&row) {
            *waiting.entry(one.campaign_id).or_default() += 1;
        }
        known.insert(row);
    }
    let unknown =
        booked.iter().filter(|row| !known.contains(*row)).map(|row| format!("{row} was never made"));
    let twice = waiting.iter().filter(|(_, count)| **count > 1);
    let twice = twice.map(|(campaign, count)| format!("{count} made for campaign {campaign} and not booked"));
    Check::new("what was made for a need was booked once", made.len(), unknown.chain(twice).collect())
}

/// Compares the events that left the hosts with those that arrived at the consumers.
async fn events(town: &Town) -> [Check; 2] {
    let events =
        "SELECT topic || ' ' || id || ' ' || (delivered_at_ms IS NOT NULL) || ' ' || payload FROM event";
    let events = town.databases.store_texts(events).await;
    let (books, applied) = (town.services.all.ledger.applied(), applied(town).await);
    let mut lost = Vec::new();
    let mut left = BTreeSet::new();
    for event in &events {
        let words: Vec<&str> = event.splitn(4, ' ').collect();
        let (topic, id, delivered) = (words[0], words[1], words[2] == "true");
        let payload: Value = serde_json::from_str(words[3]).unwrap();
        let id = match topic {
            "MpcKeygenRequested" => payload["session_id"].as_str().unwrap(),
            _ => id,
        };
        if !delivered || !applied.contains(id) {
            lost.push(format!("{topic} {id}, delivered: {delivered}"));
        }
        left.insert(id.to_owned());
    }
    lost.extend(applied.difference(&left).map(|id| format!("{id} came from nowhere")));
    let mut postings: BTreeMap<String, u32> = BTreeMap::new();
    for posting in books.values() {
        *postings.entry(posting["posting_key"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let published = "SELECT posting_key FROM ledger_outbox";
    let published = town.databases.business_texts(published).await;
    let times = |key: &String| postings.get(key).copied().unwrap_or_default();
    let wrong = published.iter().filter(|key| times(key) != 1);
    let wrong = wrong.map(|key| format!("{key}: {} times", times(key))).collect();
    [
        Check::new("each event was delivered, and is known to its consumer", events.len(), lost),
        Check::new("the ledger applied each posting once", published.len(), wrong),
    ]
}

/// Ids of the events that the consumers applied, and of the sessions that events requested.
async fn applied(town: &Town) -> BTreeSet<String> {
    let mut applied: BTreeSet<String> = town.services.all.ledger.applied().into_keys().collect();
    let known = "SELECT id FROM event_inbox UNION ALL SELECT session_id FROM mpc_session";
    applied.extend(town.databases.business_texts(known).await);
    applied
}

/// There must be one report for each midnight.
async fn reports(town: &Town, ended_at: Timestamp) -> Check {
    let date = |at: Timestamp| at.to_zoned(TimeZone::UTC).date();
    let midnights = date(town.began).until(date(ended_at)).unwrap().get_days();
    let reported = "SELECT COUNT(*) FROM event_inbox WHERE topic = 'DailyReport'";
    let reported = town.databases.business_number(reported).await;
    let wrong = (reported != i64::from(midnights)).then(|| format!("{reported} reports of {midnights} days"));
    let of = usize::try_from(midnights).unwrap();
    Check::new("one report for each day that ended", of, wrong.into_iter().collect())
}

pub async fn figures(town: &Town) -> Figures {
    let business = async |sql: &str| town.databases.business_number(sql).await;
    let store = async |sql: &str| town.databases.store_number(sql).await;
    let manual = "SELECT COUNT(*) FROM item WHERE job = 'batch-compensation' AND state = 'manual_required'";
    vec![
        ("wallets", business("SELECT COUNT(*) FROM user_account").await),
        ("finalized", business("SELECT COUNT(*) FROM order_step WHERE step = 'paid'").await),
        ("ledger_steps", business("SELECT COUNT(*) FROM order_step WHERE step = 'posted'").await),
        ("events", store("SELECT COUNT(*) FROM event").await),
        ("applied", i64::try_from(applied(town).await.len()).unwrap()),
        ("compensations", store("SELECT COUNT(*) FROM item WHERE job = 'batch-compensation'").await),
        ("manual", store(manual).await),
        ("campaigns", business("SELECT COUNT(*) FROM campaign").await),
        ("refills", business("SELECT COUNT(*) FROM stock_batch").await),
    ]
}
