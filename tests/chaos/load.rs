//! The client: adds items and starts runs at a steady pace, and logs every answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::ask::NoAnswer;
use crate::site::{JOBS, Site};

/// Items that each run finds.
const RUN_ITEMS: u64 = 40;
const RUN_PERIOD: Duration = Duration::from_secs(4);
/// Requests that may wait for an answer; further ones are not sent.
const REQUESTS_MAX: u32 = 48;
/// How long the client avoids a host that gave no answer.
const REST: Duration = Duration::from_secs(2);

/// An item's name. No two jobs have the same key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub job: &'static str,
    pub key: String,
}

/// The client's knowledge.
#[derive(Default)]
pub struct Log {
    /// Items that a host acknowledged.
    pub acknowledged: Vec<Key>,
    /// Items without an acknowledgement: they may exist or not.
    pub unknown: usize,
    /// Requests that were not sent, or that a host refused with a reason: nothing was written.
    pub refused: u64,
}

pub struct Load {
    site: Arc<Site>,
    log: Mutex<Log>,
    room: Arc<Semaphore>,
    /// The place of the last request, and when each place may be asked again.
    turn: Mutex<(usize, Vec<Instant>)>,
}

/// A request, and the items that it creates.
struct Request {
    path: String,
    body: serde_json::Value,
    keys: Vec<Key>,
}

impl Load {
    pub fn new(site: Arc<Site>) -> Arc<Load> {
        let turn = Mutex::new((0, vec![Instant::now(); site.places.len()]));
        let room = Arc::new(Semaphore::new(REQUESTS_MAX as usize));
        Arc::new(Load { site, log: Mutex::default(), room, turn })
    }

    /// Runs until dropped.
    pub async fn run(self: &Arc<Self>, per_second: u32) {
        let mut beat = interval(Duration::from_secs(1) / per_second);
        beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut items, mut runs, mut run_at) = (0, 0, Instant::now());
        loop {
            beat.tick().await;
            let request = if Instant::now() >= run_at {
                run_at += RUN_PERIOD;
                runs += 1;
                run_of(runs)
            } else {
                items += 1;
                item(items)
            };
            let (load, permit) = (self.clone(), self.room.clone().acquire_owned().await.unwrap());
            tokio::spawn(async move {
                load.send(request).await;
                drop(permit);
            });
        }
    }

    /// Returns the log when every request was answered or given up.
    pub async fn log(&self) -> Log {
        let _all = self.room.acquire_many(REQUESTS_MAX).await.unwrap();
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// Sends each key once: a second time, a finished item would start again.
    async fn send(&self, request: Request) {
        let place = self.next_place();
        let answer = self.site.places[place].ask("POST", &request.path, Some(request.body)).await;
        if answer.is_err() {
            self.turn.lock().unwrap().1[place] = Instant::now() + REST;
        }
        let mut log = self.log.lock().unwrap();
        match answer {
            Ok((200..=299, _)) => log.acknowledged.extend(request.keys),
            // A host may answer 5xx although the database carried the request out.
            Ok((400..=499, _)) | Err(NoAnswer::NobodyThere) => log.refused += 1,
            _ => log.unknown += request.keys.len(),
        }
    }

    /// Places in rotation, without those that just gave no answer, if there are others.
    fn next_place(&self) -> usize {
        let (last, rested) = &mut *self.turn.lock().unwrap();
        let (count, now) = (rested.len(), Instant::now());
        let next = (1..=count).map(|n| (*last + n) % count).find(|place| rested[*place] <= now);
        *last = next.unwrap_or((*last + 1) % count);
        *last
    }
}

fn item(n: u64) -> Request {
    let job = JOBS[(n % 2) as usize];
    let key = format!("a-{n:07}");
    let path = format!("/api/v1/jobs/{job}/items");
    Request { path, body: json!({ "key": key }), keys: vec![Key { job, key }] }
}

/// A run that finds its own items, page by page.
fn run_of(n: u64) -> Request {
    let job = JOBS[(n % 2) as usize];
    let (first, last) = ((n - 1) * RUN_ITEMS + 1, n * RUN_ITEMS);
    let keys = (first..=last).map(|n| Key { job, key: format!("w-{n:07}") }).collect();
    let body = json!({ "params": { "first": first, "last": last } });
    Request { path: format!("/api/v1/jobs/{job}"), body, keys }
}
