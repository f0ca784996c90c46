//! A host on a machine with fewer resources than it asks for.

use std::process::Command;
use test_support::{is_root, needs};

use crate::support::http;
use crate::support::process::Process;
use crate::support::site::{Site, eventually, items, text};

const ITEMS: u64 = 60;

/// A command that sets a limit and then becomes the command that it is given.
fn bounded(limit: &str) -> Vec<String> {
    let script = format!("ulimit {limit} && exec \"$0\" \"$@\"");
    vec!["sh".to_owned(), "-c".to_owned(), script]
}

fn site() -> Site {
    let site = Site::new("[jobs.hello]\nplugin = \"hello\"\nconcurrency = 256\n");
    site.install("hello", "hello");
    site
}

/// Checks that all items are resolved in their first counted attempt under the limit.
async fn works_under(limit: &str) {
    let site = site();
    let mut host = Process::spawn_by(&bounded(limit), &site.path("tidemill.toml"), site.address);
    host.ready().await;
    site.until_active("hello").await;
    for n in 0..ITEMS {
        let key = format!("item-{n}");
        let added = site.ask(&["items", "add", "hello", &key]).await;
        assert!(added.status.success(), "{}", text(&added.stderr));
    }
    site.until_items("resolved", ITEMS).await;
    let jobs = http::get(site.address, "/api/v1/jobs").await.json();
    assert_eq!(items(&jobs, "manual_required"), 0);
    host.terminate().await;
}

/// 100 GiB of address space allow only a few calls at a time: the default reserves more than 2 TiB.
#[tokio::test]
async fn a_host_with_little_address_space_takes_a_smaller_pool() {
    needs!(Product);
    works_under("-v 100000000").await;
}

#[tokio::test]
async fn a_host_with_few_open_files_works() {
    needs!(Product);
    works_under("-n 48").await;
}

/// Root has no limit of threads: the host runs as a user of its own then, whose threads are counted alone.
fn with_threads(site: &Site, threads: u32) -> Vec<String> {
    const USER: &str = "61234";
    let limit = format!("prlimit --nproc={threads}");
    let words = match is_root() {
        false => limit,
        true => {
            assert!(
                Command::new("chown").args(["-R", USER]).arg(site.dir.path()).status().unwrap().success()
            );
            format!("setpriv --reuid {USER} --regid {USER} --clear-groups {limit}")
        }
    };
    words.split(' ').map(str::to_owned).collect()
}

#[tokio::test]
async fn a_host_that_may_start_few_threads_refuses_to_start() {
    needs!(Product);
    for threads in [1, 2, 8, 20] {
        let site = site();
        let wrapper = with_threads(&site, threads);
        let mut host = Process::spawn_by(&wrapper, &site.path("tidemill.toml"), site.address);
        let status = host.child.wait().await.unwrap();
        let log = site.log();
        assert_eq!(status.code(), Some(1), "{threads} threads: {log}");
        assert!(
            log.contains("more threads, and needs") && log.contains("ulimit -u"),
            "{threads} threads: {log}"
        );
    }
}

#[tokio::test]
async fn a_host_with_just_enough_threads_works() {
    needs!(Product);
    if !is_root() {
        return eprintln!("not run: the threads of this user cannot be counted alone");
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    let site = site();
    let wrapper = with_threads(&site, u32::try_from(cores).unwrap() + 26);
    let mut host = Process::spawn_by(&wrapper, &site.path("tidemill.toml"), site.address);
    host.ready().await;
    site.until_active("hello").await;
    for n in 0..ITEMS {
        assert!(site.ask(&["items", "add", "hello", &format!("item-{n}")]).await.status.success());
    }
    site.until_items("resolved", ITEMS).await;
    host.terminate().await;
}

#[tokio::test]
async fn a_host_without_address_space_refuses_to_start() {
    needs!(Product);
    let site = site();
    let mut host = Process::spawn_by(&bounded("-v 4000000"), &site.path("tidemill.toml"), site.address);
    let ended = eventually("the host to end", || {
        let ended = host.child.try_wait().unwrap();
        async move { ended }
    })
    .await;
    assert_eq!(ended.code(), Some(1));
    let log = site.log();
    for word in ["4 calls of plugins", "3906 MiB (ulimit -v)", "ulimit -v unlimited"] {
        assert!(log.contains(word), "{word} is not in:\n{log}");
    }
}
