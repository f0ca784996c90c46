//! Adds items one after another, and keeps its own list of what it was told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::http::{self, Answer};
use crate::support::site::Site;

/// What was answered, in order.
pub struct Client {
    site: Arc<Site>,
    job: &'static str,
    next: AtomicUsize,
    pub acknowledged: Mutex<Vec<String>>,
    pub refused: Mutex<Vec<Answer>>,
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

    /// So many at the same time, until the set is dropped; each rests that long between two.
    pub fn start(self: &Arc<Client>, count: usize, rest_ms: u64) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            let client = self.clone();
            tasks.spawn(async move {
                loop {
                    client.add().await;
                    // tidy: sleep because a client has its own pace
                    tokio::time::sleep(std::time::Duration::from_millis(rest_ms)).await;
                }
            });
        }
        tasks
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

    /// How long until one more item is acknowledged.
    pub async fn until_acknowledged(&self) -> std::time::Duration {
        let (before, began) = (self.count().0, Instant::now());
        crate::support::wait::until("an item is acknowledged", async || self.count().0 > before).await;
        began.elapsed()
    }
}
