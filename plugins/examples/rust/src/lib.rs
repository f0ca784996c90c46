//! A job in Rust: three items that end in three ways.

mod mistakes;

use std::time::Instant;

use tidemill_sdk::http::Request;
use tidemill_sdk::{Describe, Failure, Found, Item, Job, Outcome, Page, PageRequest};
use tidemill_sdk::{clock, config, describe, events, export_job, json, kv, log};

struct Example;

impl Job for Example {
    fn describe() -> Describe {
        describe!("Three items that end in three ways, in Rust.")
            .config_schema(json!({
                "type": "object",
                "properties": {
                    "service": { "type": "string" },
                    "fail_times": { "type": "integer", "minimum": 0 },
                    "also": { "type": "string" },
                    "discover_mistake": { "type": "string" },
                },
                "required": ["service"],
                "additionalProperties": false,
            }))
            .topic("ExampleDone")
            .keyvalue()
    }

    fn discover(_request: PageRequest) -> Result<Page, Failure> {
        if let Some(mistake) = config::get("discover_mistake")? {
            mistakes::make(&mistake);
        }
        let also = config::get("also")?.unwrap_or_default();
        let keys = ["good", "flaky", "bad"].into_iter().chain(also.split(',').filter(|key| !key.is_empty()));
        Ok(Page::complete(keys.map(Found::key).collect()))
    }

    fn process(item: Item) -> Result<Outcome, Failure> {
        log::info!("{}, attempt {}", item.key, item.attempt);
        match item.key.as_str() {
            "good" => good(&item),
            // An `Err` is an answer. A panic is a crash, and the host reports its text.
            "flaky" if item.attempt <= config::get_or("fail_times", 2)? => {
                Err(Failure::transient("too-early", format!("attempt {} is too early", item.attempt)))
            }
            "flaky" => Ok(Outcome::resolved(format!("at attempt {}", item.attempt))),
            "bad" => Err(Failure::permanent("never", "this item never works")),
            "clock" => reads_clock(),
            mistake => mistakes::make(mistake),
        }
    }
}

/// Calls a service, counts in the key-value store, and publishes an event.
fn good(item: &Item) -> Result<Outcome, Failure> {
    let service = config::get_or("service", String::new())?;
    let answer = Request::get(service).send()?.success()?;
    let count = kv::get("count")?.unwrap_or(0) + 1;
    kv::set("count", &count)?;
    events::publish("ExampleDone", &item.key, &json!({ "count": count }))?;
    let text = String::from_utf8_lossy(&answer.body);
    Ok(Outcome::resolved(format!("the service answered {} {text}", answer.status)))
}

fn reads_clock() -> Result<Outcome, Failure> {
    let before = Instant::now();
    let now = clock::now_ms();
    if Instant::now() < before {
        return Err(Failure::permanent("clock", "the monotonic clock goes backwards"));
    }
    Ok(Outcome::resolved(format!("at {now}")))
}

export_job!(Example);
