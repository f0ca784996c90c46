//! Slots and memory of a host, shared among its jobs.

use std::sync::atomic::Ordering;

use domain::flow::Flow;
use domain::item::State;
use domain::job::JobSpec;
use domain::limits::{Limits, MIB};
use test_support::on_both;

use super::fake::{Gate, Look, page};
use super::world::{Host, World, job};
use crate::EngineConfig;

on_both![
    sleeping_attempts_of_one_job_leave_slots_for_another,
    memory_is_left_for_each_job,
    jobs_with_work_get_equal_shares,
    a_job_alone_uses_the_whole_host,
    more_jobs_than_slots_take_turns,
    discovery_runs_beside_sleeping_attempts,
    discoveries_wait_for_each_other,
    a_discovery_that_waits_is_given_back,
];

fn named(name: &str, concurrency: u32) -> JobSpec {
    let flow = Flow { concurrency, ..Flow::default() };
    JobSpec { name: name.parse().unwrap(), flow, ..job() }
}

/// Adds items to the job; gates hold their attempts.
async fn held(world: &World, host: &Host, job: &str, count: usize) -> Vec<Gate> {
    let keys: Vec<String> = (0..count).map(|n| format!("{job}-{n:03}")).collect();
    let gates = keys.iter().map(|key| world.script.holds(key)).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    find(world, host, job, &keys).await;
    gates
}

async fn find(world: &World, host: &Host, job: &str, keys: &[&str]) {
    world.script.finds(keys);
    let run = host.engine.trigger(&job.parse().unwrap(), None, "test").await.unwrap();
    let found =
        || async { host.store.runs().get(run).await.unwrap().filter(|run| run.state != "discovering") };
    world.until("the discovery", found).await;
}

fn begun(world: &World, job: &str) -> usize {
    world.seen.count(&format!("h1 begins {job}-"))
}

async fn until_ended(world: &World, job: &str, count: usize) {
    world.until_count(&format!("h1 attempt-ended {job}-"), count).await;
}

/// The defaults of a host: 256 slots, and memory for 128 attempts.
async fn sleeping_attempts_of_one_job_leave_slots_for_another(world: World) {
    let jobs = [named("greedy", 256), named("small", 4), named("other", 4)];
    let host = world.host("h1", &jobs).await;
    let gates = held(&world, &host, "greedy", 200).await;
    world.until_count("h1 begins greedy-", 126).await;
    for job in ["small", "other"] {
        find(&world, &host, job, &[&format!("{job}-0"), &format!("{job}-1")]).await;
        until_ended(&world, job, 2).await;
    }
    assert_eq!(begun(&world, "greedy"), 126, "the rest of the host is for the two others");
    gates.iter().for_each(Gate::open);
    until_ended(&world, "greedy", 200).await;
}

async fn memory_is_left_for_each_job(world: World) {
    let large =
        JobSpec { limits: Limits { memory_bytes: 512 * MIB, ..Limits::DEFAULT }, ..named("large", 1) };
    let little = |config| EngineConfig { memory_bytes: 1_024 * MIB, ..config };
    let host = world.host_with("h1", &[named("greedy", 64), large], little).await;
    let gates = held(&world, &host, "greedy", 20).await;
    world.until_count("h1 begins greedy-", 8).await;
    find(&world, &host, "large", &["large-0"]).await;
    until_ended(&world, "large", 1).await;
    assert_eq!(begun(&world, "greedy"), 8);
    gates.iter().for_each(Gate::open);
    until_ended(&world, "greedy", 20).await;
}

/// One job has taken all slots that it could get; as its attempts end, the others catch up.
async fn jobs_with_work_get_equal_shares(world: World) {
    let jobs = [named("one", 100), named("two", 100), named("three", 100)];
    let slots = |config| EngineConfig { attempts_max: 12, ..config };
    let host = world.host_with("h1", &jobs, slots).await;
    let one = held(&world, &host, "one", 30).await;
    world.until_count("h1 begins one-", 10).await;
    let (two, three) = (held(&world, &host, "two", 30).await, held(&world, &host, "three", 30).await);
    world.until_count("h1 begins two-", 1).await;
    world.until_count("h1 begins three-", 1).await;
    one.iter().take(6).for_each(Gate::open);
    world.until_count("h1 begins two-", 4).await;
    world.until_count("h1 begins three-", 4).await;
    until_ended(&world, "one", 6).await;
    assert_eq!([begun(&world, "one"), begun(&world, "two"), begun(&world, "three")], [10, 4, 4]);
    [one, two, three].iter().flatten().for_each(Gate::open);
    for job in ["one", "two", "three"] {
        until_ended(&world, job, 30).await;
    }
}

async fn a_job_alone_uses_the_whole_host(world: World) {
    let slots = |config| EngineConfig { attempts_max: 6, ..config };
    let host = world.host_with("h1", &[named("only", 100)], slots).await;
    let gates = held(&world, &host, "only", 9).await;
    world.until_count("h1 begins only-", 6).await;
    gates.iter().for_each(Gate::open);
    until_ended(&world, "only", 9).await;
}

/// Each job has a backlog. No job is served a second time before all others were served.
async fn more_jobs_than_slots_take_turns(world: World) {
    let names: Vec<String> = (0..6).map(|n| format!("job{n}")).collect();
    let jobs: Vec<JobSpec> = names.iter().map(|name| named(name, 1)).collect();
    let slots = |config| EngineConfig { attempts_max: 2, ..config };
    let host = world.host_with("h1", &jobs, slots).await;
    let mut gates = Vec::new();
    for name in &names {
        gates.push(held(&world, &host, name, 3).await);
        world.advance(1);
    }
    for ended in 0..12 {
        world.until_count("h1 begins job", ended + 2).await;
        world.advance(1);
        let next = order(&world)[ended];
        gates[next].remove(0).open();
    }
    world.until_count("h1 begins job", 14).await;
    for served in order(&world)[2..14].chunks(6) {
        let mut served = served.to_vec();
        served.sort_unstable();
        assert_eq!(served, [0, 1, 2, 3, 4, 5], "{:?}", order(&world));
    }
    gates.iter().flatten().for_each(Gate::open);
    for name in &names {
        until_ended(&world, name, 3).await;
    }
}

/// The numbers of the jobs in the order in which their attempts began.
fn order(world: &World) -> Vec<usize> {
    let number = |line: String| line.strip_prefix("h1 begins job")?.split('-').next()?.parse().ok();
    world.seen.lines().into_iter().filter_map(number).collect()
}

/// All memory for attempts is taken, but discoveries have their own.
async fn discovery_runs_beside_sleeping_attempts(world: World) {
    let little = |config| EngineConfig { memory_bytes: 128 * MIB, attempts_max: 2, ..config };
    let host = world.host_with("h1", &[named("greedy", 9), named("small", 1)], little).await;
    let greedy = held(&world, &host, "greedy", 4).await;
    let small = held(&world, &host, "small", 1).await;
    world.until_count("h1 begins greedy-", 1).await;
    world.until_count("h1 begins small-", 1).await;
    find(&world, &host, "small", &["small-last"]).await;
    greedy.iter().chain(&small).for_each(Gate::open);
    world
        .until("the last item", || async {
            let item = host.store.items().get("small", "small-last").await.unwrap();
            item.filter(|item| item.state == State::Resolved)
        })
        .await;
}

async fn discoveries_wait_for_each_other(world: World) {
    let one = |config| EngineConfig { discoveries_max: 1, ..config };
    let names = ["first", "second", "third"];
    let host = world.host_with("h1", &names.map(|name| named(name, 1)), one).await;
    let gate = Gate::new();
    world.script.look(Look::Hold(gate.clone(), page(&["a"], None)));
    host.engine.trigger(&"first".parse().unwrap(), None, "test").await.unwrap();
    world.until_count("h1 discovers", 1).await;
    for name in &names[1..] {
        host.engine.trigger(&name.parse().unwrap(), None, "test").await.unwrap();
    }
    gate.open();
    world.until_count("h1 discovered", 3).await;
    assert_eq!(world.script.discovering_max.load(Ordering::SeqCst), 1);
}

/// A discovery that waits for a slot ends with its host, and another host runs it.
async fn a_discovery_that_waits_is_given_back(world: World) {
    let one = |config| EngineConfig { discoveries_max: 1, ..config };
    let host = world.host_with("h1", &[named("first", 1), named("second", 1)], one).await;
    let gate = Gate::new();
    world.script.look(Look::Hold(gate.clone(), page(&["a"], None)));
    host.engine.trigger(&"first".parse().unwrap(), None, "test").await.unwrap();
    world.until_count("h1 discovers", 1).await;
    let run = host.engine.trigger(&"second".parse().unwrap(), None, "test").await.unwrap();
    gate.open();
    host.stop().await;
    let other = world.host("h2", &[named("second", 1)]).await;
    let finished =
        || async { other.store.runs().get(run).await.unwrap().filter(|run| run.state == "finished") };
    world.until("the second discovery", finished).await;
}
