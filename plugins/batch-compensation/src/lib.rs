//! Repeats operations that failed in another system. Each record of a batch names its operation. Records are
//! submitted through the host's API, so there is nothing to discover.

use serde::Deserialize;
use tidemill_sdk::{Describe, Failure, Item, Job, Outcome, Page, PageRequest};
use tidemill_sdk::{clock, describe, export_job, params, sql};

/// Claims the record, so that a repetition after a crash applies it only once.
const CLAIM: &str = "INSERT INTO compensation (record_key, operation, done_at_ms) VALUES ($1, $2, $3)
    ON CONFLICT (record_key) DO NOTHING";
const ADD_POSTING: &str = "INSERT INTO ledger_outbox
    (posting_key, order_id, account, amount_minor, currency, status, created_at_ms)
    VALUES ($1, $2, $3, $4, $5, 'pending', $6) ON CONFLICT (posting_key) DO NOTHING";
const GIVE_BACK: &str = "UPDATE campaign SET stock = stock + $2 WHERE campaign_id = $1";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LedgerCredit {
    order_id: i64,
    account: String,
    amount_minor: i64,
    currency: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StockReturn {
    campaign_id: i64,
    units: i64,
}

struct BatchCompensation;

impl Job for BatchCompensation {
    fn describe() -> Describe {
        describe!("Makes up for operations that failed elsewhere, batch by batch.")
            .write("claim", "business", CLAIM)
            .write("add-posting", "business", ADD_POSTING)
            .write("give-back", "business", GIVE_BACK)
    }

    fn discover(_request: PageRequest) -> Result<Page, Failure> {
        Ok(Page::complete(Vec::new()))
    }

    fn process(item: Item) -> Result<Outcome, Failure> {
        let operation = item.context()["operation"].as_str().unwrap_or_default().to_owned();
        let now = clock::now_ms() as i64;
        match operation.as_str() {
            "ledger-credit" => {
                let LedgerCredit { order_id, account, amount_minor, currency } = item.payload()?;
                let key = format!("compensation-{}", item.key);
                let posting = params![key, order_id, account, amount_minor, currency, now];
                sql::execute("add-posting", &posting)?;
            }
            "stock-return" => {
                let StockReturn { campaign_id, units } = item.payload()?;
                if sql::execute("claim", &params![&item.key, &operation, now])? == 0 {
                    return Ok(Outcome::resolved("done before"));
                }
                if sql::execute("give-back", &params![campaign_id, units])? == 0 {
                    let message = format!("there is no campaign {campaign_id}");
                    return Err(Failure::transient("no-campaign", message));
                }
            }
            unknown => {
                let message =
                    format!("there is no operation {unknown:?} here: use ledger-credit or stock-return");
                return Err(Failure::permanent("unknown-operation", message));
            }
        }
        Ok(Outcome::resolved(format!("{operation} done")))
    }
}

export_job!(BatchCompensation);
