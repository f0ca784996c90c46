//! Supervised loops: failures are counted, reported as down, and followed by a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::tasks::{TaskStatus, Tasks};

fn status(failures: u64, down: Option<&str>) -> Vec<TaskStatus> {
    vec![TaskStatus { name: "loop".to_owned(), failures, down: down.map(str::to_owned) }]
}

#[tokio::test]
async fn a_loop_that_panics_or_returns_is_started_again() {
    let (tasks, stop) = (Tasks::default(), CancellationToken::new());
    let (lives, began) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let run = {
        let (lives, began, stop) = (lives.clone(), began.clone(), stop.clone());
        move || {
            let (lives, began, stop) = (lives.clone(), began.clone(), stop.clone());
            async move {
                match lives.fetch_add(1, Ordering::SeqCst) {
                    0 => std::panic::resume_unwind(Box::new("the first life")),
                    1 => {}
                    _ => {
                        began.notify_one();
                        stop.cancelled().await;
                    }
                }
            }
        }
    };
    let supervised = tokio::spawn(tasks.clone().supervise("loop", stop.clone(), run));
    began.notified().await;
    assert_eq!(tasks.status(), status(2, Some("it returned although the host runs")));
    assert!(tasks.is_down("loop"), "it has to run for a while first");
    stop.cancel();
    supervised.await.unwrap();
    assert_eq!(tasks.status(), status(2, None));
    assert_eq!(lives.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_loop_that_is_down() {
    let (tasks, stop) = (Tasks::default(), CancellationToken::new());
    let failed = Arc::new(Notify::new());
    let run = {
        let failed = failed.clone();
        move || {
            let failed = failed.clone();
            async move {
                failed.notify_one();
                std::panic::resume_unwind(Box::new("again".to_owned()))
            }
        }
    };
    let supervised = tokio::spawn(tasks.clone().supervise("loop", stop.clone(), run));
    failed.notified().await;
    stop.cancel();
    supervised.await.unwrap();
    assert_eq!(tasks.status(), status(1, Some("it panicked: again")));
}
