//! A copy of a data folder has the same host id: it runs only while the other process does not.

use std::process::Command;

use super::checks::all_done_once;
use super::site::{HostLocation, Site};
use crate::support::database::Kind;
use crate::support::process::Process;
use crate::support::wait::until;

const ITEMS: u32 = 2_000;
const REFUSED: &str = "another process runs as host";
const WAITS: &str = "another process may run under this host's id";

/// A working host, and the place of its copy.
async fn at_work() -> (Site, HostLocation, Process) {
    let site = Site::witness(Kind::Postgres, ITEMS).await;
    let place = site.place("one");
    let host = place.start().await;
    host.post("/api/v1/jobs/witness").await.unwrap();
    site.until_resolved_more_than(0).await;
    (site, place, host)
}

fn copy(site: &Site, from: &HostLocation) -> HostLocation {
    let copy = site.place("copy");
    let copied = Command::new("cp").arg("-r").args([&from.data, &copy.data]).status().unwrap();
    assert!(copied.success(), "cp: {copied}");
    copy
}

async fn lost(site: &Site) -> i64 {
    site.databases.store_number("SELECT COUNT(*) FROM attempt WHERE verdict = 'lost'").await
}

async fn ends_with_1(host: &mut Process) {
    let status = host.child.wait().await.unwrap();
    assert_eq!(status.code(), Some(1), "{status}");
}

pub async fn a_copy_beside_its_host_is_refused() {
    let (site, one, host) = at_work().await;
    let copy = copy(&site, &one);
    let mut refused = copy.spawn();
    ends_with_1(&mut refused).await;
    assert!(copy.log().contains(REFUSED), "{}", copy.log());
    until("the run is finished", async || site.finished().await).await;
    assert_eq!(lost(&site).await, 0, "nothing was taken back");
    assert_eq!(site.databases.store_number("SELECT COUNT(*) FROM host").await, 1);
    host.terminate().await;
    all_done_once(&site.databases, ITEMS, 0).await;
}

pub async fn a_host_whose_id_was_taken_over_ends() {
    let (site, one, mut host) = at_work().await;
    host.signal("STOP").await;
    let copy = copy(&site, &one);
    let copied = copy.start().await;
    assert!(copy.log().contains(WAITS), "it waits for a lease: {}", copy.log());
    host.signal("CONT").await;
    ends_with_1(&mut host).await;
    assert!(one.log().contains("another process took over the id of host"), "{}", one.log());
    until("the run is finished", async || site.finished().await).await;
    copied.terminate().await;
    all_done_once(&site.databases, ITEMS, 0).await;
}

pub async fn a_killed_host_starts_at_once_in_its_folder() {
    let (site, one, host) = at_work().await;
    host.kill9().await;
    site.business_is_quiet().await;
    let host = one.start().await;
    assert!(!one.log().contains(WAITS), "{}", one.log());
    until("the run is finished", async || site.finished().await).await;
    host.terminate().await;
    all_done_once(&site.databases, ITEMS, 0).await;
}
