//! Replenishes campaigns with low stock. The stock producer makes the units, through an exit of the proxy.

use serde::Deserialize;
use tidemill_sdk::http::Request;
use tidemill_sdk::sql::Row;
use tidemill_sdk::{Describe, Failure, Found, Item, Job, Outcome, Page, PageRequest};
use tidemill_sdk::{clock, config, describe, export_job, json, params, sql};

const LOW: &str = "SELECT campaign_id, user_id, name FROM campaign
    WHERE active = 1 AND stock < stock_min AND campaign_id > $1 ORDER BY campaign_id LIMIT $2";
const CAMPAIGN: &str = "SELECT stock, stock_min, active,
        (SELECT COUNT(*) FROM stock_batch b WHERE b.campaign_id = c.campaign_id) AS batches
    FROM campaign c WHERE c.campaign_id = $1";
const ADD_BATCH: &str = "INSERT INTO stock_batch (batch_id, campaign_id, units, made_at_ms)
    VALUES ($1, $2, $3, $4) ON CONFLICT (batch_id) DO NOTHING";
const ADD_STOCK: &str = "UPDATE campaign SET stock = stock + $2 WHERE campaign_id = $1";

struct StockReplenish;

#[derive(Deserialize)]
struct Exit {
    exit: String,
}

#[derive(Deserialize)]
struct Answer {
    success: bool,
    batch_id: Option<String>,
    units: Option<i64>,
    error: Option<String>,
}

impl Job for StockReplenish {
    fn describe() -> Describe {
        describe!("Has new stock made for campaigns that run low.")
            .config_schema(json!({
                "type": "object",
                "properties": {
                    "stock_url": { "type": "string", "pattern": "^https?://" },
                    "proxy_url": { "type": "string", "pattern": "^https?://" },
                    "target_percent": { "type": "integer", "minimum": 100, "maximum": 10000, "default": 200 },
                },
                "required": ["stock_url", "proxy_url"],
                "additionalProperties": false,
            }))
            .read("low", "business", LOW)
            .read("campaign", "business", CAMPAIGN)
            .write("add-batch", "business", ADD_BATCH)
            .write("add-stock", "business", ADD_STOCK)
    }

    /// Every low campaign of every user. The payload is for people, who read it in alerts and results.
    fn discover(request: PageRequest) -> Result<Page, Failure> {
        let after: i64 = request.cursor.as_deref().and_then(|id| id.parse().ok()).unwrap_or(0);
        let rows = sql::query("low", &params![after, request.limit])?;
        let items = rows.iter().map(found).collect::<Result<Vec<_>, _>>()?;
        let full = items.len() == request.limit as usize;
        let next = items.last().filter(|_| full).map(|last| last.key.clone());
        Ok(Page { items, next })
    }

    fn process(item: Item) -> Result<Outcome, Failure> {
        let campaign: i64 = item
            .key
            .parse()
            .map_err(|_| Failure::permanent("bad-key", format!("{:?} is no campaign's number", item.key)))?;
        let Some(row) = sql::query("campaign", &params![campaign])?.into_iter().next() else {
            return Ok(Outcome::resolved("the campaign is gone"));
        };
        let (stock, stock_min) = (row.get::<i64>("stock")?, row.get::<i64>("stock_min")?);
        if row.get::<i64>("active")? != 1 || stock >= stock_min {
            return Ok(Outcome::resolved("not low any more"));
        }
        let percent: i64 = config::get_or("target_percent", 200)?;
        let wanted = stock_min.saturating_mul(percent) / 100 - stock;
        // One key per need: if a response was lost, the request is repeated and no units are made twice.
        let need = format!("campaign-{campaign}-need-{}", row.get::<i64>("batches")? + 1);
        let (batch, units) = make(campaign, wanted, &need)?;
        let now = clock::now_ms() as i64;
        if sql::execute("add-batch", &params![&batch, campaign, units, now])? == 1 {
            sql::execute("add-stock", &params![campaign, units])?;
        }
        Ok(Outcome::resolved(format!("{units} units, {batch}")))
    }
}

fn found(row: &Row) -> Result<Found, Failure> {
    let payload = json!({ "name": row.get::<String>("name")?, "user_id": row.get::<i64>("user_id")? });
    Ok(Found { key: row.get::<i64>("campaign_id")?.to_string(), payload: payload.to_string() })
}

/// Orders this many units from the producer, through one of the proxy's exits.
fn make(campaign: i64, wanted: i64, need: &str) -> Result<(String, i64), Failure> {
    let proxy: String = config::get_or("proxy_url", String::new())?;
    let exit: Exit = Request::get(format!("{proxy}/exit")).send()?.success()?.json()?;
    let stock: String = config::get_or("stock_url", String::new())?;
    let order = json!({ "campaign_id": campaign, "units": wanted, "exit": exit.exit });
    let request = Request::post(format!("{stock}/replenish")).header("idempotency-key", need).json(&order)?;
    match request.send()?.success()?.json()? {
        Answer { success: true, batch_id: Some(batch), units: Some(units), .. } if units > 0 => {
            Ok((batch, units))
        }
        Answer { success: false, error, .. } => {
            let why = error.unwrap_or_else(|| "the producer gave no reason".to_owned());
            Err(Failure::transient("replenish-failed", why))
        }
        _ => Err(Failure::transient("http-answer", "the producer says it made something, but not what")),
    }
}

export_job!(StockReplenish);
