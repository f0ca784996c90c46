//! The business continues while everything fails: each simulated minute adds users, orders, sales and leases,
//! and every few minutes a batch of operations that failed elsewhere.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::town::Town;

const ACCOUNTS: [&str; 4] = ["acme-books", "blue-harbour", "cedar-and-sons", "elm-street-radio"];
const CAMPAIGNS: i64 = 24;
const FIRST_USER: i64 = 20_000_000;
const FIRST_ORDER: i64 = 600_000;
const MINUTE_MS: i64 = 60_000;
/// A lease that is not confirmed within this many minutes is given back.
const LEASE_MINUTES: i64 = 8;
const CONFIRMED_AFTER: i64 = 3;
const BATCH_MINUTES: i64 = 5;
/// An account is closed for the first half of each such period.
const CLOSED_MINUTES: i64 = 40;

pub struct Customers {
    town: Arc<Town>,
    minute: i64,
    /// Batches that no host has acknowledged yet.
    asking: JoinSet<()>,
}

impl Customers {
    pub fn new(town: Arc<Town>) -> Customers {
        Customers { town, minute: 0, asking: JoinSet::new() }
    }

    /// Runs until dropped.
    pub async fn live(&mut self) {
        let mut beat = interval(Duration::from_secs_f64(60.0 / self.town.speed));
        beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            beat.tick().await;
            self.minute += 1;
            let statements = self.statements(self.town.clock.now().as_millisecond());
            self.town.databases.business(&statements).await;
            if self.minute % BATCH_MINUTES == 1 {
                self.hand_in();
            }
        }
    }

    /// The statements of one minute, each in its own transaction.
    fn statements(&self, now: i64) -> String {
        let all = [self.account(), self.user(now), self.order(now), self.sale(), self.lease(now)];
        // Sent as one query without these, they would be one transaction.
        all.map(|statement| format!("BEGIN; {statement}; COMMIT;")).join("\n")
    }

    fn account(&self) -> String {
        let which = ACCOUNTS[(self.minute / CLOSED_MINUTES % 4) as usize];
        let state = if self.minute % CLOSED_MINUTES < CLOSED_MINUTES / 2 { "closed" } else { "open" };
        format!("UPDATE payout_account SET state = '{state}' WHERE account = '{which}'")
    }

    /// A user without a wallet, some with a generation that went wrong in one of several ways.
    fn user(&self, now: i64) -> String {
        let user = FIRST_USER + self.minute;
        let add = format!("INSERT INTO user_account VALUES ({user}, {})", 50_000 + self.minute);
        let status = ["", "failed", "completed", "gener"][(self.minute % 4) as usize];
        if status.is_empty() {
            return add;
        }
        format!(
            "{add}; INSERT INTO keygen_status (user_id, status, updated_at_ms) VALUES ({user}, '{status}', {now})"
        )
    }

    /// An order that failed, that failed after the ledger step, or whose finalizing began and never ended.
    fn order(&self, now: i64) -> String {
        let (order, account) = (FIRST_ORDER + self.minute, ACCOUNTS[(self.minute / 3 % 4) as usize]);
        let amount = 1_000 + self.minute;
        let (status, begun, posted) =
            [("finalize_failed", None, 0), ("finalize_failed", None, 1), ("finalizing", Some(now), 0)]
                [(self.minute % 3) as usize];
        let add = format!(
            "INSERT INTO split_order (order_id, account, amount_minor, currency, status, finalize_in_progress,
                finalize_started_at_ms, ledger_posted, updated_at_ms) VALUES ({order}, '{account}', {amount}, 'EUR',
                '{status}', {}, {}, {posted}, {now})",
            i64::from(begun.is_some()),
            begun.map_or("NULL".to_owned(), |at| at.to_string()),
        );
        if posted == 0 {
            return add;
        }
        format!(
            "{add}; INSERT INTO ledger_outbox (posting_key, order_id, account, amount_minor, currency, status,
                created_at_ms) VALUES ('order-{order}', {order}, '{account}', {amount}, 'EUR', 'pending', {now})"
        )
    }

    fn sale(&self) -> String {
        let units = 1 + self.minute * 7 % 13;
        let whose = format!("active = 1 AND (campaign_id + {}) % 3 = 0", self.minute);
        take(&whose, units, "")
    }

    fn lease(&self, now: i64) -> String {
        let campaign = 1 + self.minute % CAMPAIGNS;
        let (units, until) = (1 + self.minute % 3, now + LEASE_MINUTES * MINUTE_MS);
        let hold = format!(
            ", held AS (INSERT INTO stock_lease (lease_id, campaign_id, units, status, expires_at_ms)
                SELECT 'hold-{}', campaign_id, units, 'held', {until} FROM wanted)",
            self.minute
        );
        let take = take(&format!("campaign_id = {campaign}"), units, &hold);
        let confirmed = self.minute - CONFIRMED_AFTER;
        if confirmed % 2 == 0 {
            return take;
        }
        format!(
            "{take}; UPDATE stock_lease SET status = 'confirmed' WHERE lease_id = 'hold-{confirmed}' AND status = 'held'"
        )
    }

    /// Two records that can be compensated, one for an unknown campaign, and one with an unknown operation.
    fn hand_in(&mut self) {
        let (batch, campaign) = (format!("b-{:04}", self.minute), 1 + self.minute % CAMPAIGNS);
        let units = 1 + self.minute % 4;
        let records = [
            ("stock-return", json!({ "campaign_id": campaign, "units": units })),
            (
                "ledger-credit",
                json!({ "order_id": FIRST_ORDER + self.minute, "account": "acme-books",
                    "amount_minor": 100 + self.minute, "currency": "EUR" }),
            ),
            ("stock-return", json!({ "campaign_id": 999, "units": 1 })),
            ("refund", json!({})),
        ];
        let kinds = ["stock-return", "ledger-credit", "nowhere", "unknown"];
        let items: Vec<Value> = records
            .into_iter()
            .map(|(operation, payload)| {
                json!({ "operation": operation, "payload": payload, "failure_reason": "timed out" })
            })
            .collect();
        let body = json!({ "id": batch, "job": "batch-compensation", "created_by": "trial", "items": items });
        let row = |n: usize| format!("('{batch}:{n}', '{}', {campaign}, {units})", kinds[n]);
        let rows: Vec<String> = (0..kinds.len()).map(row).collect();
        let town = self.town.clone();
        self.asking.spawn(async move {
            // The batch is recorded first and then sent until a host acknowledges it. Its id stays the same:
            // a host refuses a batch that it already has, which proves that it is there.
            town.databases.business(&format!("INSERT INTO handed_in VALUES {}", rows.join(", "))).await;
            town.ask_anyone("/api/v1/batches", body).await;
        });
    }

    /// No more customers arrive; returns when a host has acknowledged every batch.
    pub async fn leave(self) {
        self.asking.join_all().await;
    }
}

/// Takes up to this many units of stock, and notes them in the same statement.
fn take(whose: &str, units: i64, beside: &str) -> String {
    format!(
        "WITH wanted AS (SELECT campaign_id, LEAST(stock, {units}) AS units FROM campaign
            WHERE {whose} AND stock > 0 ORDER BY campaign_id FOR UPDATE),
        noted AS (INSERT INTO taken SELECT campaign_id, units FROM wanted){beside}
        UPDATE campaign SET stock = stock - wanted.units FROM wanted
            WHERE campaign.campaign_id = wanted.campaign_id"
    )
}
