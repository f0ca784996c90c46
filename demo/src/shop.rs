//! Customers: they buy stock, so that campaigns need replenishment.

use anyhow::{Context, Result};

use crate::dice::roll;
use crate::world::World;

/// Every third campaign sells something in a minute.
const SELL: &str = "UPDATE campaign SET stock = CASE WHEN stock > $1 THEN stock - $1 ELSE 0 END
    WHERE active = 1 AND (campaign_id + $2) % 3 = 0";
const UNITS_MAX: u64 = 15;
const STOCK: &str =
    "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN stock < stock_min THEN 1 ELSE 0 END), 0) AS BIGINT),
    (SELECT COUNT(*) FROM stock_batch) FROM campaign WHERE active = 1";

/// Number of campaigns, of campaigns with low stock, and of batches made for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StockCounts {
    pub campaigns: i64,
    pub low: i64,
    pub batches: i64,
}

impl World {
    /// The sales of one minute, the same in each show.
    pub async fn sell(&self, minute: i64) -> Result<()> {
        let units = (roll(7, &[minute.cast_unsigned()]) % UNITS_MAX).cast_signed() + 1;
        on!(&self.pool, |db| sqlx::query(SELL).bind(units).bind(minute).execute(db).await.map(drop))
            .context("cannot sell stock")
    }

    pub async fn stock(&self) -> Result<StockCounts> {
        let (campaigns, low, batches) =
            on!(&self.pool, |db| sqlx::query_as::<_, (i64, i64, i64)>(STOCK).fetch_one(db).await)
                .context("cannot count the stock")?;
        Ok(StockCounts { campaigns, low, batches })
    }
}
