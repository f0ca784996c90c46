//! The smallest job with items: each name is an item, and an attempt greets it.

use tidemill_sdk::{Describe, Failure, Found, Item, Job, Outcome, Page, PageRequest};
use tidemill_sdk::{config, describe, export_job, json, log};

struct Hello;

impl Job for Hello {
    fn describe() -> Describe {
        describe!("Greets each name of its config.").config_schema(json!({
            "type": "object",
            "properties": { "names": { "type": "string", "description": "Names, parted by commas." } },
            "additionalProperties": false,
        }))
    }

    fn discover(_request: PageRequest) -> Result<Page, Failure> {
        let names = config::get_or("names", "Ada, Grace, Edsger".to_owned())?;
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Page::complete(names.map(Found::key).collect()))
    }

    fn process(item: Item) -> Result<Outcome, Failure> {
        log::info!("hello, {}!", item.key);
        Ok(Outcome::resolved(format!("greeted {}", item.key)))
    }
}

export_job!(Hello);
