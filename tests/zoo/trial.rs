//! Runs one guest from its file to its end, and measures its cost.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::guest::{Attack, End, Guest};
use crate::host::{Host, Memory, now_ms, pass};

/// The neighbour's throughput is measured for this long before the guest runs, and at least as long
/// meanwhile.
const SPAN: Duration = Duration::from_secs(1);
/// Other processes may slow the machine, so a loss must occur in every try to be attributed to the guest.
const TRIES_MAX: u32 = 3;
/// Longest wait for the end of a guest.
const PATIENCE: Duration = Duration::from_secs(45);

pub struct Verdict {
    name: String,
    /// Its result.
    end: String,
    took: Duration,
    pub neighbour: f64,
    before: Memory,
    after: Memory,
    pub alive: bool,
    pub wrong: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |kib: i64| kib as f64 / 1024.0;
        write!(
            f,
            "{}: {} after {} ms, neighbour {:.2}, memory at most {:+.1} MiB, then {:+.1} MiB",
            self.name,
            self.end,
            self.took.as_millis(),
            self.neighbour,
            mib(self.after.peak - self.before.all),
            mib(self.after.own - self.before.own),
        )?;
        self.wrong.iter().try_for_each(|wrong| write!(f, "; WRONG: {wrong}"))
    }
}

pub async fn try_out(host: &mut Host, guest: &Guest) -> Verdict {
    let mut tries = 1;
    loop {
        let verdict = attempt(host, guest, tries).await;
        if !verdict.alive {
            host.start_again().await;
            return verdict;
        }
        if verdict.neighbour >= host.neighbour_keeps || tries == TRIES_MAX {
            return verdict;
        }
        eprintln!("once more: {verdict}");
        tries += 1;
    }
}

async fn attempt(host: &mut Host, guest: &Guest, tries: u32) -> Verdict {
    if !matches!(guest.attack, Attack::Load { .. } | Attack::Weigh) {
        host.install(guest, tries);
        host.site.until_active(guest.name).await;
    }
    let quiet = now_ms();
    pass(SPAN).await;
    let before = host.memory();
    host.reset_peak();
    let began = now_ms();
    let ended = tokio::time::timeout(PATIENCE, attack(host, guest, tries)).await;
    let end = ended.unwrap_or_else(|_| Err(format!("it did not end within {PATIENCE:?}")));
    let took = Duration::from_millis(u64::try_from(now_ms() - began).unwrap_or_default());
    pass(SPAN.saturating_sub(took)).await;
    let until = now_ms();

    let alive = host.alive().await;
    let mut wrong: Vec<String> = end.as_ref().err().cloned().into_iter().collect();
    if !alive {
        wrong.push("the host is gone".to_owned());
    }
    let rate = |done: i64, from: i64, until: i64| done as f64 / (until - from).max(1) as f64;
    let usual = rate(host.done(quiet, began).await, quiet, began);
    let meanwhile = rate(host.done(began, until).await, began, until);
    let neighbour = if usual > 0.0 { meanwhile / usual } else { 0.0 };
    if neighbour < host.neighbour_keeps {
        wrong.push(format!("its neighbour kept {neighbour:.2} of its throughput"));
    }
    host.remove(guest);
    let mut after = host.memory();
    let peak = after.peak;
    if peak - before.all > guest.peak_mib_max << 10 {
        wrong.push(format!("the host needed more than {} MiB more", guest.peak_mib_max));
    }
    while alive && after.own - before.own > guest.kept_mib_max << 10 && now_ms() < until + 5_000 {
        pass(Duration::from_millis(100)).await;
        after = Memory { peak, ..host.memory() };
    }
    if after.own - before.own > guest.kept_mib_max << 10 {
        wrong.push(format!("{} KiB of memory did not come back", after.own - before.own));
    }
    let end = end.unwrap_or_else(|_| "not as it should".to_owned());
    let name = format!("{} {}", guest.row, guest.name);
    Verdict { name, end, took, neighbour, before, after, alive, wrong }
}

/// Returns the guest's result if it is the required one, otherwise an error.
async fn attack(host: &mut Host, guest: &Guest, tries: u32) -> Result<String, String> {
    match &guest.attack {
        Attack::Load { says } => load(host, guest, Some(says), tries).await,
        Attack::Weigh => load(host, guest, None, tries).await,
        Attack::Items { count, payload, end } => items(host, guest, *count, payload, *end, tries).await,
        Attack::Run { code } => run(host, guest, code).await,
    }
}

async fn load(host: &mut Host, guest: &Guest, says: Option<&str>, tries: u32) -> Result<String, String> {
    let began = Timestamp::now();
    host.install(guest, tries);
    let file = format!("{}.wasm", guest.name);
    loop {
        if !host.alive().await {
            return Err("the host ended before it decided".to_owned());
        }
        let reported = host.get("/api/v1/plugins").await;
        let find = |list: &str, key: &str, name: &str| {
            let entry = reported[list].as_array().into_iter().flatten().find(|entry| entry[key] == name);
            entry.cloned().unwrap_or_default()
        };
        // Ignore the result of an earlier try.
        let seen = |version: &Value| {
            version["seen_at"].as_str().is_some_and(|at| at.parse::<Timestamp>().is_ok_and(|at| at >= began))
        };
        let version = Some(find("plugins", "plugin", guest.name)).filter(seen).unwrap_or_default();
        if version["state"] == "active" {
            return if says.is_none() { Ok("taken".to_owned()) } else { Err("it was taken".to_owned()) };
        }
        let reason = version["reason"].as_str().map(str::to_owned);
        let skipped = find("skipped", "file", &file)["reason"].as_str().map(str::to_owned);
        if let Some(reason) = skipped.or(reason) {
            let short: String = reason.chars().take(100).collect();
            return if says.is_none_or(|says| reason.contains(says)) {
                Ok(format!("refused ({short})"))
            } else {
                Err(reason)
            };
        }
        pass(Duration::from_millis(20)).await;
    }
}

async fn items(
    host: &mut Host,
    guest: &Guest,
    count: u32,
    payload: &str,
    end: End,
    tries: u32,
) -> Result<String, String> {
    let keys: Vec<String> = (1..=count).map(|n| format!("{tries}-{n}")).collect();
    for key in &keys {
        let body = json!({ "key": key, "payload": payload });
        host.post(&format!("/api/v1/jobs/{}/items", guest.name), body).await;
    }
    for key in &keys {
        let item = ended_item(host, guest, key, end).await?;
        check(&item, end)?;
    }
    Ok(match end {
        End::Resolved => "resolved".to_owned(),
        End::Waits => "put off".to_owned(),
        End::Failed(code, _) => code.to_owned(),
    })
}

async fn ended_item(host: &mut Host, guest: &Guest, key: &str, end: End) -> Result<Value, String> {
    loop {
        if !host.alive().await {
            return Err("its end is unknown".to_owned());
        }
        let reported = host.get(&format!("/api/v1/items/{}/{key}", guest.name)).await;
        let item = &reported["item"];
        let tried = reported["attempts"].as_array().is_some_and(|attempts| !attempts.is_empty());
        let waits = matches!(end, End::Waits) && tried && item["state"] == "scheduled";
        if item["state"] == "resolved" || item["state"] == "manual_required" || waits {
            return Ok(reported);
        }
        pass(Duration::from_millis(20)).await;
    }
}

fn check(reported: &Value, end: End) -> Result<(), String> {
    let (state, error) = (&reported["item"]["state"], &reported["item"]["error"]);
    let holds = match end {
        End::Resolved => state == "resolved",
        End::Waits => state == "scheduled",
        End::Failed(code, says) => {
            let message = error["message"].as_str().unwrap_or_default();
            state == "manual_required" && error["code"] == code && message.contains(says)
        }
    };
    if holds { Ok(()) } else { Err(format!("it should end as {end:?}, and is {state} with {error}")) }
}

async fn run(host: &mut Host, guest: &Guest, code: &str) -> Result<String, String> {
    let run = host.post(&format!("/api/v1/jobs/{}", guest.name), json!({})).await;
    let id = run["run_id"].as_str().unwrap_or_default().to_owned();
    loop {
        if !host.alive().await {
            return Err("its end is unknown".to_owned());
        }
        let reported = host.get(&format!("/api/v1/runs/{id}")).await;
        if reported["state"] == "finished" || reported["state"] == "failed" {
            return match reported["error"]["code"] == code {
                true => Ok(format!("the run failed with {code}")),
                false => Err(format!("the run is {} with {}", reported["state"], reported["error"])),
            };
        }
        pass(Duration::from_millis(20)).await;
    }
}
