//! Adds items one after another, and records every answer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::http::{self, Answer};
use crate::support::site::Site;

/// The answers, in order.
pub struct Client {
    site: Arc<Site>,
    job: &'static str,
    next: AtomicUsize,
    pub acknowledged: Mutex<Vec<String>>,
    pub refused: Mutex<Vec<Answer>>,
}

/// Running clients.
pub struct Load {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

impl Load {
    /// Ends after every client has the answer to its last request, so no more requests are open.
    pub async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
    }
}

impl Client {
    pub fn new(site: Arc<Site>, job: &'static str) -> Arc<Client> {
        Arc::new(Client {
            site,
            job,
            next: AtomicUsize::new(0),
            acknowledged: Mutex::default(),
            refused: Mutex::default(),
        })
    }

    /// Starts `count` clients in parallel; each pauses for `rest_ms` between two requests.
    pub fn start(self: &Arc<Client>, count: usize, rest_ms: u64) -> Load {
        let (mut tasks, stop) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        for _ in 0..count {
            let (client, stop) = (self.clone(), stop.clone());
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    client.add().await;
                    // tidy: sleep because a client has its own pace
                    tokio::time::sleep(std::time::Duration::from_millis(rest_ms)).await;
                }
            });
        }
        Load { tasks, stop }
    }

    async fn add(&self) {
        let key = format!("a-{:07}", self.next.fetch_add(1, Ordering::Relaxed));
        let body = json!({ "key": key, "payload": format!("{{\"ms\":1,\"x\":\"{}\"}}", "x".repeat(2_000)) });
        let path = format!("/api/v1/jobs/{}/items", self.job);
        let answer = http::post(self.site.address, &path, &body.to_string()).await;
        match answer.status {
            201 => self.acknowledged.lock().unwrap().push(key),
            _ => self.refused.lock().unwrap().push(answer),
        }
    }

    pub fn count(&self) -> (usize, usize) {
        (self.acknowledged.lock().unwrap().len(), self.refused.lock().unwrap().len())
    }

    /// Returns the time until one more item is acknowledged.
    pub async fn until_acknowledged(&self) -> std::time::Duration {
        let (before, began) = (self.count().0, Instant::now());
        crate::support::wait::until("an item is acknowledged", async || self.count().0 > before).await;
        began.elapsed()
    }
}
