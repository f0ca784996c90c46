//! Signals to the real binary while an attempt is running.

use test_support::needs;

use crate::support::http;
use crate::support::process::Process;
use crate::support::site::{Site, eventually, items, text};

/// Signals that a host logs and ignores: those of `server::app::signals`, and two real-time signals (40 is one).
const IGNORED: [&str; 10] = ["USR1", "USR2", "ALRM", "STKFLT", "XFSZ", "VTALRM", "PROF", "IO", "RTMIN", "40"];

/// A host with one attempt that is running for `ms` milliseconds.
async fn busy(ms: u64) -> (Site, Process) {
    let site = Site::new(&format!("[jobs.slow]\nplugin = \"sleeper\"\nconfig = {{ ms = {ms} }}\n"));
    site.install("sleeper", "sleeper");
    let host = site.serve().await;
    site.until_active("sleeper").await;
    let added = site.ask(&["items", "add", "slow", "one", "--payload", &format!("{{\"ms\":{ms}}}")]).await;
    assert!(added.status.success(), "{}", text(&added.stderr));
    site.until_items("running", 1).await;
    (site, host)
}

/// Waits until the log contains `wanted`.
async fn until_logged(site: &Site, wanted: &str) {
    eventually(wanted, || async { site.log().contains(wanted).then_some(()) }).await;
}

#[tokio::test]
async fn ignored_signals_leave_the_host_and_its_attempt_running() {
    needs!(Product);
    let (site, host) = busy(3_000).await;
    for signal in IGNORED {
        let ignored = || site.log().matches("signal ignored").count();
        let before = ignored();
        host.signal(signal).await;
        eventually(signal, || async { (ignored() > before).then_some(()) }).await;
    }
    assert_eq!(http::get(site.address, "/healthz").await.status, 200);
    site.until_items("resolved", 1).await;
    let item = http::get(site.address, "/api/v1/items?job=slow").await.json()["items"][0].clone();
    assert_eq!((&item["attempts"], &item["crashes"]), (&1.into(), &0.into()), "{item}");
    host.terminate().await;
}

#[tokio::test]
async fn sighup_reloads_the_configuration() {
    needs!(Product);
    let (mut site, host) = busy(3_000).await;
    site.edit("[jobs.slow]\nplugin = \"sleeper\"\n[jobs.added]\nplugin = \"sleeper\"\n");
    host.signal("HUP").await;
    until_logged(&site, "the configuration is read again").await;
    site.until_said(&["jobs"], "added").await;

    // A file with a mistake is refused, and the host keeps its configuration.
    site.edit("[jobs.slow]\nplugni = \"sleeper\"\n");
    host.signal("HUP").await;
    until_logged(&site, "plugni").await;
    let jobs = http::get(site.address, "/api/v1/jobs").await.json();
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(2), "{jobs}");
    host.terminate().await;
}

/// Checks that the host waits for the running attempt and ends with code 0, and that no attempt or crash is
/// counted twice.
async fn stops_in_order(signal: &str) {
    let (site, host) = busy(1_500).await;
    host.stop_by(signal).await;
    let host = site.serve().await;
    site.until_items("resolved", 1).await;
    let jobs = http::get(site.address, "/api/v1/jobs").await.json();
    assert_eq!(items(&jobs, "resolved"), 1, "{jobs}");
    let item = http::get(site.address, "/api/v1/items?job=slow").await.json()["items"][0].clone();
    assert_eq!((&item["attempts"], &item["crashes"]), (&1.into(), &0.into()), "{item}");
    host.terminate().await;
}

#[tokio::test]
async fn sigint_stops_in_order() {
    needs!(Product);
    stops_in_order("INT").await;
}

#[tokio::test]
async fn sigquit_stops_in_order() {
    needs!(Product);
    stops_in_order("QUIT").await;
}

#[tokio::test]
async fn sigpwr_and_sigxcpu_stop_in_order() {
    needs!(Product);
    stops_in_order("PWR").await;
    stops_in_order("XCPU").await;
}
