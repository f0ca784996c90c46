//! Two processes under one host's id: a copy of a data folder is started beside the original host.

use domain::flow::Flow;
use domain::item::State;
use domain::job::JobSpec;
use jiff::SignedDuration;
use store::StoreError;
use store::hosts::{HostLocation, HostStart};
use test_support::on_both;

use super::world::{Host, World, job};
use crate::EngineConfig;

on_both![
    a_copy_of_a_running_host_is_refused,
    a_host_that_was_moved_takes_its_work_back_after_its_lease,
    a_host_that_was_displaced_ends_its_work,
    a_host_whose_row_was_removed_registers_again,
];

const LEASE: SignedDuration = SignedDuration::from_secs(15);

fn with_lease(config: EngineConfig) -> EngineConfig {
    EngineConfig { lease_ttl: LEASE, ..config }
}

fn one_at_a_time() -> JobSpec {
    JobSpec { flow: Flow { concurrency: 1, ..Flow::default() }, ..job() }
}

/// A host that holds `a`.
async fn holds_a(world: &World) -> Host {
    world.script.finds(&["a"]);
    world.script.holds("a");
    let host = world.host_with("h1", &[one_at_a_time()], with_lease).await;
    host.trigger().await;
    world.until_seen("h1 begins a #1").await;
    world.until_seen("h1 discovered").await;
    host
}

/// Starts host `h1` from a data folder in another place, while time passes.
async fn start_elsewhere(world: &World, running: Option<&Host>) -> Result<Host, StoreError> {
    let jobs = [one_at_a_time()];
    let passes = async {
        loop {
            world.advance(1);
            match running {
                Some(host) => world.until_renewed_lately(host, SignedDuration::from_secs(5)).await,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::select! {
        started = world.host_at("elsewhere", "h1", &jobs, with_lease) => started,
        () = passes => unreachable!("time does not end"),
    }
}

async fn a_copy_of_a_running_host_is_refused(world: World) {
    let host = holds_a(&world).await;
    let Err(error) = start_elsewhere(&world, Some(&host)).await else { panic!("the copy runs") };
    let text = error.to_string();
    assert!(
        text.contains("another process runs as host") && text.contains("remove the file host-id"),
        "{text}"
    );
    let item = host.item("a").await.unwrap();
    assert_eq!((item.state, item.epoch, item.crashes), (State::Running, 1, 0), "nothing was taken back");
    let trail = host.store.audit().list(100).await.unwrap();
    assert_eq!(trail.iter().filter(|entry| entry.action == "host_refused").count(), 1);
    assert!(!host.engine.is_displaced());
}

async fn a_host_that_was_moved_takes_its_work_back_after_its_lease(world: World) {
    holds_a(&world).await.crash();
    world.until_seen("dropped h1 a").await;
    let crashed_at = world.clock.now();
    let host = start_elsewhere(&world, None).await.unwrap();
    let waited = host.store.hosts().list(1).await.unwrap()[0].started_at.duration_since(crashed_at);
    assert!(waited >= LEASE, "it started after {waited:#}");
    world.until_state(&host, "a", State::Resolved).await;
    // The lost attempt and the one after it have raised it.
    assert_eq!(host.item("a").await.unwrap().epoch, 3);
}

async fn a_host_that_was_displaced_ends_its_work(world: World) {
    let host = holds_a(&world).await;
    let id = host.engine.host_id();
    let incarnation = domain::id::Incarnation::new(world.clock.now());
    let start = HostStart {
        id,
        incarnation,
        name: "copy".to_owned(),
        place: HostLocation::Folder("here".to_owned()),
    };
    host.store.hosts().take(&start, None, world.clock.now()).await.unwrap();
    world.advance(5);
    host.engine.displaced().await;
    world.until_seen("dropped h1 a").await;
    let run = host.trigger().await;
    host.stop().await;
    assert_eq!(host.store.runs().get(run).await.unwrap().unwrap().state, "discovering", "it claims nothing");
    let view = host.store.hosts().list(1).await.unwrap().remove(0);
    assert_eq!((view.name.as_str(), view.incarnation, view.stopped_at), ("copy", Some(incarnation), None));
}

async fn a_host_whose_row_was_removed_registers_again(world: World) {
    let host = world.host_with("h1", &[one_at_a_time()], with_lease).await;
    let now = world.clock.now();
    // As another host does whose clock is far ahead.
    let other = domain::id::HostId::new(now);
    host.store.hosts().prune(other, now + SignedDuration::from_hours(1), now).await.unwrap();
    assert!(host.store.hosts().list(9).await.unwrap().is_empty());
    world.advance(5);
    world.until_renewed(&host).await;
    let view = host.store.hosts().list(9).await.unwrap().remove(0);
    assert_eq!((view.id, host.engine.is_displaced()), (host.engine.host_id(), false));
}
