//! Discoveries that fail, and one that is interrupted.

use std::time::Duration;

use domain::failure::{ErrorInfo, Failure};
use domain::item::State;
use domain::job::JobSpec;
use domain::limits::Limits;
use test_support::on_both;

use super::fake::{Gate, Look, page};
use super::world::{Host, World, each_minute, job};
use crate::EngineConfig;

on_both![
    many_pages_are_one_run,
    failed_discovery_keeps_the_items_it_found,
    a_discovery_that_panics_fails,
    a_discovery_without_end_is_ended,
    repeated_cursor_fails_the_discovery,
    an_interrupted_discovery_goes_on_at_its_cursor,
    item_that_is_no_longer_found_is_resolved,
    a_discovery_opens_no_more_than_the_job_may_have,
];

async fn many_pages_are_one_run(world: World) {
    world.script.look(Look::Page(page(&["a", "b"], Some("2"))));
    world.script.look(Look::Page(page(&[], Some("3"))));
    world.script.look(Look::Page(page(&["b", "c"], None)));
    let host = world.host("h1", &[job()]).await;
    let run = host.trigger().await;
    let run = world.until_run(&host, run, "finished").await;
    assert_eq!((run.discovered.found, run.done), (4, run.discovered.queued));
    for line in ["h1 discovers from start", "h1 discovers from 2", "h1 discovers from 3"] {
        assert!(world.seen.has(line), "{line}");
    }
    for key in ["a", "b", "c"] {
        assert_eq!(host.item(key).await.unwrap().state, State::Resolved);
    }
}

async fn failed_with(world: &World, host: &Host, code: &str) -> String {
    let run = host.trigger().await;
    let run = world.until_run(host, run, "failed").await;
    world.until_seen(&format!("h1 discovery-failed {code}")).await;
    let error = run.error.unwrap();
    assert_eq!(error.code, code);
    error.message
}

async fn failed_discovery_keeps_the_items_it_found(world: World) {
    world.script.look(Look::Page(page(&["a"], Some("2"))));
    world.script.look(Look::Fail(Failure::Permanent(ErrorInfo::new("no-table", "users is gone"))));
    world.script.finds(&["b"]);
    let host = world.host("h1", &[each_minute()]).await;
    assert_eq!(failed_with(&world, &host, "no-table").await, "users is gone");
    world.until_state(&host, "a", State::Resolved).await;
    world.advance(30);
    world.until_state(&host, "b", State::Resolved).await;
}

async fn a_discovery_that_panics_fails(world: World) {
    world.script.look(Look::Panic);
    world.script.finds(&["a"]);
    let host = world.host("h1", &[job()]).await;
    failed_with(&world, &host, "host-panic").await;
    host.trigger().await;
    world.until_state(&host, "a", State::Resolved).await;
}

async fn a_discovery_without_end_is_ended(world: World) {
    for number in 0..10 {
        let (key, next) = (format!("k{number}"), format!("{}", number + 1));
        world.script.look(Look::Page(page(&[&key], Some(&next))));
    }
    let limits = Limits { pages_per_run: 3, ..Limits::DEFAULT };
    let host = world.host("h1", &[JobSpec { limits, ..job() }]).await;
    let message = failed_with(&world, &host, "too-many-pages").await;
    assert_eq!(message, "discover did not end after 3 pages");
    assert_eq!(world.seen.count("h1 discovers"), 3);
    world.until_count("h1 attempt-ended", 3).await;
}

async fn repeated_cursor_fails_the_discovery(world: World) {
    world.script.look(Look::Page(page(&["a"], Some("2"))));
    world.script.look(Look::Page(page(&["b"], Some("2"))));
    let host = world.host("h1", &[job()]).await;
    let message = failed_with(&world, &host, "cursor-stuck").await;
    assert_eq!(message, "discover returned the cursor \"2\" that it was called with");
    world.until_state(&host, "a", State::Resolved).await;
}

async fn an_interrupted_discovery_goes_on_at_its_cursor(world: World) {
    world.script.look(Look::Page(page(&["a"], Some("2"))));
    world.script.look(Look::Hold(Gate::new(), page(&["lost"], None)));
    let short = |config| EngineConfig { stop_grace: Duration::from_millis(1), ..config };
    let host = world.host_with("h1", &[job()], short).await;
    let run = host.trigger().await;
    world.until_seen("h1 discovers from 2").await;
    host.stop().await;
    let view = host.store.runs().get(run).await.unwrap().unwrap();
    assert_eq!((view.state.as_str(), view.discovered.found), ("discovering", 1));
    drop(host);

    world.script.finds(&["b"]);
    let host = world.host("h2", &[job()]).await;
    let view = world.until_run(&host, run, "finished").await;
    assert!(world.seen.has("h2 discovers from 2"), "{:?}", world.seen.lines());
    assert!(!world.seen.has("h2 discovers from start"), "{:?}", world.seen.lines());
    assert_eq!(view.summary(), "found 2, attempted 2 of 2, skipped 0");
    assert_eq!(host.events().await, ["a", "b"]);
}

async fn item_that_is_no_longer_found_is_resolved(world: World) {
    world.script.finds(&["a", "b"]);
    world.script.fails("a", [Failure::transient("x", "y")]);
    world.script.fails("b", [Failure::transient("x", "y")]);
    let host = world.host("h1", &[JobSpec { resolve_when_absent: true, ..job() }]).await;
    let run = host.trigger().await;
    world.until_run(&host, run, "finished").await;
    world.advance(1);
    world.script.finds(&["b"]);
    let run = host.trigger().await;
    let run = world.until_run(&host, run, "finished").await;
    assert_eq!(run.summary(), "found 1, attempted 0 of 0, skipped 1 (1 waiting), 1 no longer found");
    let item = host.item("a").await.unwrap();
    assert_eq!((item.state, item.note.as_deref()), (State::Resolved, Some("no longer found")));
    assert_eq!(host.item("b").await.unwrap().state, State::Scheduled);
}

async fn a_discovery_opens_no_more_than_the_job_may_have(world: World) {
    let gates: Vec<Gate> = ["a", "b", "c", "d", "e"].into_iter().map(|key| world.script.holds(key)).collect();
    for page in [page(&["a", "b"], Some("2")), page(&["c", "d"], Some("3")), page(&["a", "e"], None)] {
        world.script.look(Look::Page(page));
    }
    let limits = Limits { items_open: 3, ..Limits::DEFAULT };
    let host = world.host("h1", &[JobSpec { limits, ..job() }]).await;
    let said = failed_with(&world, &host, "too-many-open-items").await;
    assert!(said.starts_with("job job has 3 open items, so 1 new items of a page were refused"), "{said}");
    for key in ["d", "e"] {
        assert!(host.item(key).await.is_none(), "{key}");
    }
    gates.iter().for_each(Gate::open);
    for key in ["a", "b", "c"] {
        world.until_state(&host, key, State::Resolved).await;
    }
}
