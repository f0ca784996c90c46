//! The initial orders with their ledger, and campaigns with their stock. They cover every problem that a job
//! solves.

use crate::dice::roll;
use crate::world::World;

const ORDERS: i64 = 60;
const FIRST_ORDER_ID: i64 = 500_001;
const CAMPAIGNS: i64 = 24;
const LEASES: i64 = 40;
const STOCK_MIN: i64 = 20;
const MINUTE_MS: i64 = 60_000;

const ACCOUNT_ADD: &str = "INSERT INTO payout_account (account, state) VALUES ($1, $2)";
const ORDER_ADD: &str = "INSERT INTO split_order (order_id, account, amount_minor, currency, status,
    finalize_in_progress, finalize_started_at_ms, ledger_posted, paid_out, updated_at_ms)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const POSTING_ADD: &str = "INSERT INTO ledger_outbox
    (posting_key, order_id, account, amount_minor, currency, status, created_at_ms)
    VALUES ($1, $2, $3, $4, $5, 'pending', $6)";
const CAMPAIGN_ADD: &str =
    "INSERT INTO campaign (campaign_id, user_id, name, stock, stock_min) VALUES ($1, $2, $3, $4, $5)";
const LEASE_ADD: &str = "INSERT INTO stock_lease (lease_id, campaign_id, units, status, expires_at_ms)
    VALUES ($1, $2, $3, $4, $5)";

const ACCOUNTS: [(&str, &str); 5] = [
    ("acme-books", "open"),
    ("blue-harbour", "open"),
    ("cedar-and-sons", "open"),
    ("dune-coffee", "closed"),
    ("elm-street-radio", "open"),
];
const NAMES: [&str; 6] =
    ["Spring tea", "Early birds", "Loyal guests", "Students", "Night owls", "Second cup"];

/// The state of an order. Every third is done; the others have one problem each.
#[derive(Clone, Copy)]
enum Standing {
    Finalized,
    /// Its last attempt failed before the ledger was posted to.
    Failed,
    /// The ledger was posted to, and the payout failed.
    HalfDone,
    /// The process that began it never finished.
    Stuck,
}

impl Standing {
    const ALL: [Standing; 6] = [
        Standing::Finalized,
        Standing::Failed,
        Standing::Finalized,
        Standing::HalfDone,
        Standing::Finalized,
        Standing::Stuck,
    ];

    /// Status, in progress, posted to the ledger, paid out.
    fn columns(self) -> (&'static str, i64, i64, i64) {
        match self {
            Standing::Finalized => ("finalized", 0, 1, 1),
            Standing::Failed => ("finalize_failed", 0, 0, 0),
            Standing::HalfDone => ("finalize_failed", 0, 1, 0),
            Standing::Stuck => ("finalizing", 1, 0, 0),
        }
    }
}

struct Order {
    id: i64,
    account: &'static str,
    amount: i64,
    standing: Standing,
    updated_at_ms: i64,
}

fn orders(now_ms: i64, seed: u64) -> impl Iterator<Item = Order> {
    (0..ORDERS).map(move |n| {
        let dice = roll(seed, &[10, n.cast_unsigned()]);
        Order {
            id: FIRST_ORDER_ID + n,
            account: ACCOUNTS[(dice % 5) as usize].0,
            amount: 500 + (dice % 90_000).cast_signed(),
            standing: Standing::ALL[(n % 6) as usize],
            updated_at_ms: now_ms - (n + 1) * MINUTE_MS,
        }
    })
}

/// Id, owner, name and stock of each campaign. Every fourth is low, and every second of those is empty.
fn campaigns(seed: u64) -> impl Iterator<Item = (i64, i64, String, i64)> {
    (0..CAMPAIGNS).map(move |n| {
        let dice = roll(seed, &[11, n.cast_unsigned()]);
        let stock = match n % 8 {
            0 => 0,
            4 => (dice % 20).cast_signed(),
            _ => 100 + (dice % 400).cast_signed(),
        };
        let name = format!("{} {}", NAMES[(n % 6) as usize], 2_026 - n / 6);
        (n + 1, crate::seed::FIRST_USER_ID + n / 3, name, stock)
    })
}

/// Id, campaign, units, status and end of each lease. Half of them have expired.
fn leases(now_ms: i64, seed: u64) -> impl Iterator<Item = (String, i64, i64, &'static str, i64)> {
    (0..LEASES).map(move |n| {
        let units = 1 + (roll(seed, &[12, n.cast_unsigned()]) % 5).cast_signed();
        let status = if n % 4 == 0 { "confirmed" } else { "held" };
        let expires_at_ms = now_ms + (n - LEASES / 2) * MINUTE_MS;
        (format!("lease-{:04}", n + 1), n % CAMPAIGNS + 1, units, status, expires_at_ms)
    })
}

impl World {
    /// Fills the tables of orders and stock, in one transaction.
    pub async fn seed_trade(&self, now_ms: i64, seed: u64) -> Result<(), sqlx::Error> {
        on!(&self.pool, |db| {
            let mut tx = db.begin().await?;
            for (account, state) in ACCOUNTS {
                sqlx::query(ACCOUNT_ADD).bind(account).bind(state).execute(&mut *tx).await?;
            }
            for Order { id, account, amount, standing, updated_at_ms } in orders(now_ms, seed) {
                let (status, in_progress, posted, paid) = standing.columns();
                let began = (in_progress == 1).then_some(now_ms - 10 * MINUTE_MS);
                let add = sqlx::query(ORDER_ADD).bind(id).bind(account).bind(amount).bind("EUR");
                let add = add.bind(status).bind(in_progress).bind(began).bind(posted).bind(paid);
                add.bind(updated_at_ms).execute(&mut *tx).await?;
                if matches!(standing, Standing::HalfDone) {
                    let add = sqlx::query(POSTING_ADD).bind(format!("order-{id}")).bind(id);
                    let add = add.bind(account).bind(amount).bind("EUR").bind(updated_at_ms);
                    add.execute(&mut *tx).await?;
                }
            }
            for (id, user, name, stock) in campaigns(seed) {
                let add = sqlx::query(CAMPAIGN_ADD).bind(id).bind(user).bind(name).bind(stock);
                add.bind(STOCK_MIN).execute(&mut *tx).await?;
            }
            for (id, campaign, units, status, expires_at_ms) in leases(now_ms, seed) {
                let add = sqlx::query(LEASE_ADD).bind(id).bind(campaign).bind(units).bind(status);
                add.bind(expires_at_ms).execute(&mut *tx).await?;
            }
            tx.commit().await
        })
    }
}
