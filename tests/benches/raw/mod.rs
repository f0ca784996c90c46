//! The store alone: one task claims items and ends them in a loop, without engine, leases to renew, and sandbox.
//! The engine cannot be faster than this loop by much: it sends the same statements.

use std::sync::Arc;

use domain::id::{HostId, Incarnation};
use domain::item::Claimed;
use domain::job::JobSpec;
use domain::outcome::{Outcome, decide};
use domain::runner::Usage;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use store::Store;
use store::attempts::commit::{AttemptEnd, Committed, Effects};
use store::items::lease;
use uuid::Uuid;

/// Items of one claim: as many as one transaction ends.
const CLAIM_ITEMS: u32 = 256;
/// Longer than any run of the loop, so that no lease has to be renewed.
const LEASE_TTL: SignedDuration = SignedDuration::from_hours(1);

/// Resolves all due items of the job and returns their number.
pub async fn drain(store: &Store, job: &JobSpec, host: HostId) -> u64 {
    let incarnation = Incarnation(Uuid::now_v7());
    let mut drained = 0;
    loop {
        let lease = lease(host, incarnation, Timestamp::now(), LEASE_TTL);
        let claimed = store.items().claim(job, lease, CLAIM_ITEMS).await.unwrap();
        let Some(attempt) = claimed.first().map(|item| item.attempt_id) else { return drained };
        let ends = claimed.into_iter().map(|item| store.attempts().end(Arc::new(end(item, job, host))));
        for committed in join_all(ends).await {
            assert_eq!(committed.unwrap(), Committed::Applied);
            drained += 1;
        }
        store.items().let_go(attempt);
    }
}

fn end(item: Claimed, job: &JobSpec, host: HostId) -> AttemptEnd {
    let ended_at = Timestamp::now();
    let ending = decide(&Ok(Outcome::Resolved { note: None }), &item, &job.retry, ended_at);
    AttemptEnd {
        item,
        ending,
        effects: Effects::default(),
        host,
        failed_alert: job.failed_alert.clone(),
        digest: None,
        usage: Usage::default(),
        log: String::new(),
        ended_at,
    }
}
