//! Swaps during work.

use std::collections::BTreeMap;
use std::fs;

use domain::job::JobSpec;
use test_support::on_both;

use super::{is_active, run_to_its_end};
use crate::support::database::{Databases, Kind};
use crate::support::host::{Host, job, manual};
use crate::support::plugins;

on_both!(swaps_under_load_attempt_every_item_once_on_one_of_the_versions);

const LOADED_JOBS: usize = 8;
const ROUNDS: usize = 30;

async fn swaps_under_load_attempt_every_item_once_on_one_of_the_versions(kind: Kind) {
    let databases = Databases::new(kind).await;
    let folder = databases.dir.path().join("plugins");
    plugins::install(&folder, "versioned-a", "versioned");
    let loaded = |n| JobSpec { plugin: "versioned".parse().unwrap(), ..job(&format!("load-{n}")) };
    let jobs: Vec<JobSpec> = (0..LOADED_JOBS).map(loaded).collect();
    let mut host = Host::start("one", &databases, &manual(), jobs.clone()).await;

    let rounds = |job: JobSpec| {
        let (engine, store) = (host.app.engine.clone(), host.app.store.clone());
        tokio::spawn(async move {
            for _ in 0..ROUNDS {
                run_to_its_end(&engine, &store, &job).await;
            }
        })
    };
    let rounds: Vec<_> = jobs.iter().cloned().map(rounds).collect();
    let whole = fs::read(plugins::file("versioned-b")).unwrap();
    let mut swaps = 0;
    while !rounds.iter().all(tokio::task::JoinHandle::is_finished) {
        let letter = ["b", "a"][swaps % 2];
        plugins::install(&folder, &format!("versioned-{letter}"), "versioned");
        let active =
            |host: &Host| host.app.sandbox.versions().iter().any(|v| is_active(v) && v.version == letter);
        host.until("the swap", active).await;
        // Write an invalid version between two valid ones; it must have no effect.
        fs::write(folder.join("versioned.wasm"), &whole[..whole.len() - 1 - swaps]).unwrap();
        host.something().await;
        swaps += 1;
    }
    for rounds in rounds {
        rounds.await.unwrap();
    }

    check(&host, &jobs).await;
    assert!(swaps >= 4, "{swaps} swaps");
    host.app.stop().await;
}

/// Checks that there are as many attempts as rounds, and that each attempt's note names its version.
async fn check(host: &Host, jobs: &[JobSpec]) {
    let mut letters: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for job in jobs {
        let attempts = host.app.store.items().attempts(job.name.as_str(), "run", 1_000).await.unwrap();
        assert_eq!(attempts.len(), ROUNDS, "one attempt a round");
        for attempt in attempts {
            assert_eq!(attempt.verdict, "resolved", "{attempt:?}");
            let note = attempt.note.unwrap();
            let (letter, count) = letters.entry(attempt.digest.unwrap()).or_insert((note.clone(), 0));
            assert_eq!(*letter, note, "a version says its own letter");
            *count += 1;
        }
    }
    let seen: Vec<&str> = letters.values().map(|(letter, _)| letter.as_str()).collect();
    assert_eq!(seen.len(), 2, "{letters:?}");
    assert_ne!(seen[0], seen[1]);
}
