//! Portions of items that a person adds: their counts, their limit, and items that are known already.

use domain::effect::NewItem;
use domain::job::JobSpec;
use domain::runner::FoundItem;
use test_support::on_both;

use super::support::{T, at, failed, job, permanent, resolved};
use crate::items::enqueue::{Added, Enqueued};

on_both! {
    portion_counts_new_reopened_and_kept_items,
    new_items_become_due_in_the_given_order,
    known_keys_among_many_are_found,
    portion_beyond_the_limit_changes_nothing,
    portion_is_one_record_and_one_event,
    repeated_portion_changes_nothing,
    concurrent_portions_add_each_item_once,
}

fn items(keys: impl IntoIterator<Item = impl ToString>) -> Vec<FoundItem> {
    let item = |key: String| FoundItem { payload: format!("payload of {key}"), key };
    keys.into_iter().map(|key| item(key.to_string())).collect()
}

fn numbered(range: std::ops::Range<u32>) -> Vec<FoundItem> {
    items(range.map(|n| format!("k{n:05}")))
}

fn counts(added: u64, reopened: u64, kept: u64) -> Option<Enqueued> {
    Some(Enqueued { added, reopened, kept })
}

impl T {
    async fn add(&self, job: &JobSpec, items: &[FoundItem], now: i64) -> Option<Enqueued> {
        self.store.items().add_portion(job, items, "ada", at(now)).await.unwrap()
    }

    async fn payload(&self, key: &str) -> String {
        self.store.items().get("wallet", key).await.unwrap().unwrap().payload
    }

    async fn counted(&self) -> String {
        let counts = self.store.items().counts().await.unwrap();
        counts.iter().map(|count| format!("{} {}\n", count.state, count.items)).collect()
    }
}

async fn portion_counts_new_reopened_and_kept_items(t: T) {
    t.attempt("done", resolved(), 0).await;
    t.attempt("open", failed(), 1).await;
    t.attempt("parked", permanent(), 2).await;
    let mut wanted = items(["open", "new", "done", "parked", "other"]);
    wanted.push(FoundItem { key: "new".to_owned(), payload: "second".to_owned() });
    assert_eq!(t.add(&job(), &wanted, 3).await, counts(2, 1, 3));
    assert_eq!(t.payload("new").await, "payload of new", "the first of two counts");
    assert_eq!(t.payload("done").await, "payload of done");
    assert_eq!(t.payload("open").await, "{}");
    assert_eq!(t.payload("parked").await, "{}");
    assert_eq!(t.counted().await, "manual_required 1\npending 3\nretrying 1\n");
    assert_eq!(t.due().await, 4);
    let adds = async |key: &str| {
        let item = NewItem { job: job().name, key: key.to_owned(), payload: String::new() };
        t.store.items().add(&item, "ada", at(4)).await.unwrap().0
    };
    assert_eq!((adds("one more").await, adds("new").await), (Added::New, Added::Kept));
}

async fn new_items_become_due_in_the_given_order(t: T) {
    assert_eq!(t.add(&job(), &items(["c", "a", "b"]), 0).await, counts(3, 0, 0));
    let claimed: Vec<_> = t.claim(9, 0).await.into_iter().map(|item| item.key).collect();
    assert_eq!(claimed, ["c", "a", "b"]);
}

/// Large portions are first checked for a known key.
async fn known_keys_among_many_are_found(t: T) {
    assert_eq!(t.add(&job(), &numbered(1_000..2_000), 0).await, counts(1_000, 0, 0));
    t.claim(1_000, 0).await;
    t.attempt("k02500", resolved(), 1).await;
    assert_eq!(t.add(&job(), &numbered(0..1_000), 2).await, counts(1_000, 0, 0), "before all known keys");
    assert_eq!(t.add(&job(), &numbered(3_000..3_100), 2).await, counts(100, 0, 0), "after them");
    assert_eq!(t.add(&job(), &numbered(2_000..2_500), 2).await, counts(500, 0, 0), "between two");
    assert_eq!(t.add(&job(), &numbered(2_400..2_600), 3).await, counts(99, 1, 100));
    assert_eq!(t.payload("k02500").await, "payload of k02500");
    assert_eq!(t.due().await, 1_000 + 100 + 500 + 100);
    let other = JobSpec { name: "other".parse().unwrap(), ..job() };
    assert_eq!(
        t.add(&other, &numbered(1_000..1_100), 4).await,
        counts(100, 0, 0),
        "keys belong to their job"
    );
}

async fn portion_beyond_the_limit_changes_nothing(t: T) {
    let mut job = job();
    job.limits.items_open = 100;
    assert_eq!(t.add(&job, &numbered(0..90), 0).await, counts(90, 0, 0));
    let before = t.everything().await;
    assert_eq!(t.add(&job, &numbered(80..101), 1).await, None);
    assert_eq!(t.everything().await, before);
    assert_eq!(t.add(&job, &numbered(80..100), 1).await, counts(10, 0, 10));
    assert_eq!(t.add(&job, &numbered(0..100), 2).await, counts(0, 0, 100), "known items take no room");
    job.limits.items_open = 50;
    assert_eq!(t.add(&job, &numbered(0..100), 2).await, counts(0, 0, 100), "also above the limit");
    assert_eq!(t.add(&job, &numbered(100..101), 2).await, None);
}

async fn portion_is_one_record_and_one_event(t: T) {
    let mut feed = t.store.feed().listen();
    assert_eq!(t.add(&job(), &items(["a", "b"]), 0).await, counts(2, 0, 0));
    let mut events = Vec::new();
    while let Ok(published) = feed.try_recv() {
        events.push((published.event.kind(), published.event.makes_work()));
    }
    assert_eq!(events, [("items-added", false), ("audited", true)]);
    // printf 'a\0payload of a\0b\0payload of b\0' | sha256sum
    let sha256 = "26e158c4ca3965f3";
    let trail = t.trail().await;
    let expected = "ada items_added wallet: 2 added, 0 reopened, 0 kept; \
        2 items, payloads of 24 bytes, sha256 of keys and payloads ";
    assert!(trail.starts_with(&format!("{expected}{sha256}")), "{trail}");
    let by = "SELECT COUNT(*) AS n FROM item WHERE created_by = 'ada'";
    assert_eq!((trail.lines().count(), t.number(by).await), (1, 2));
}

async fn repeated_portion_changes_nothing(t: T) {
    let portion = numbered(0..200);
    assert_eq!(t.add(&job(), &portion, 0).await, counts(200, 0, 0));
    t.claim(50, 0).await;
    let before = t.everything().await;
    assert_eq!(t.add(&job(), &portion, 1).await, counts(0, 0, 200));
    assert_eq!(t.everything().await, before);
    assert_eq!(t.add(&job(), &[], 1).await, counts(0, 0, 0));
}

async fn concurrent_portions_add_each_item_once(t: T) {
    let mut tasks = Vec::new();
    for task in 0..6_u32 {
        let t = t.clone();
        tasks.push(tokio::spawn(async move {
            let mut portion = numbered(task * 50..task * 50 + 150);
            // Also against the order of the keys.
            if task % 2 == 0 {
                portion.reverse();
            }
            t.add(&job(), &portion, 0).await.unwrap()
        }));
    }
    let mut sum = Enqueued::default();
    for task in tasks {
        sum = sum + task.await.unwrap();
    }
    assert_eq!(sum, Enqueued { added: 400, reopened: 0, kept: 500 });
    assert_eq!((t.due().await, t.counted().await.as_str()), (400, "pending 400\n"));
}
