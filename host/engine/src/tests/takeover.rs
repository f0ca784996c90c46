//! A process that has ended is noticed by its presence lock. The clock stands still in these tests, so no lease ends.

use domain::item::State;
use test_support::{Database, Kind, execute, needs};

use super::fake::{Gate, Look, page};
use super::world::{Host, World, job};

/// Counts the sessions of hosts that hold their presence lock.
const HELD: &str = "SELECT COUNT(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted AND datname = current_database()
    AND application_name = 'tidemill-presence'";

/// Waits until this many hosts hold their lock.
async fn until_held(database: &Database, hosts: u32) {
    let wait = format!(
        "DO $$ BEGIN FOR i IN 1..3000 LOOP IF ({HELD}) = {hosts} THEN RETURN; END IF;
            PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); END LOOP; RAISE 'locks are missing'; END $$"
    );
    execute(&database.url, &wait).await;
}

/// Host `h1` works on `a`, beside the idle host `h2`. Both hold their lock and have seen the other's.
async fn works_beside_another(world: &World) -> (Host, Host, Gate) {
    world.script.finds(&["a"]);
    let gate = world.script.holds("a");
    let one = world.host("h1", &[job()]).await;
    let run = one.trigger().await;
    world.until_seen("h1 begins a #1").await;
    world.until_run(&one, run, "running").await;
    let two = world.host("h2", &[job()]).await;
    until_held(&world.database, 2).await;
    watched(world, 2).await;
    (one, two, gate)
}

/// Waits until each session has looked at the locks of the others: the store counts its looks.
async fn watched(world: &World, hosts: u32) {
    let looks = format!(
        "DO $$ BEGIN FOR i IN 1..3000 LOOP IF (SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name = 'tidemill-presence' AND query LIKE 'SELECT pg_backend_pid() AS backend, other%'
                AND query_start > now()) = {hosts} THEN RETURN; END IF;
            PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); END LOOP; RAISE 'no host looks'; END $$"
    );
    execute(&world.database.url, &looks).await;
}

#[tokio::test]
async fn the_work_of_a_killed_host_moves_before_its_lease_ends() {
    needs!(Postgres);
    let world = World::on(Kind::Postgres).await;
    let (one, two, _gate) = works_beside_another(&world).await;
    one.crash();
    world.until_seen("h2 recovered a").await;
    world.until_state(&two, "a", State::Resolved).await;
    assert_eq!(two.attempts("a").await, "#1 lost 12:00:30Z\n#1 resolved 12:00:30Z\n");
    assert_eq!(two.events().await, ["a"]);
}

#[tokio::test]
async fn the_discovery_of_a_killed_host_goes_on_elsewhere() {
    needs!(Postgres);
    let world = World::on(Kind::Postgres).await;
    world.script.look(Look::Page(page(&[], Some("2"))));
    world.script.look(Look::Hold(Gate::new(), page(&["lost"], None)));
    world.script.finds(&["b"]);
    let one = world.host("h1", &[job()]).await;
    let run = one.trigger().await;
    world.until_seen("h1 discovers from 2").await;
    let two = world.host("h2", &[job()]).await;
    until_held(&world.database, 2).await;
    watched(&world, 2).await;
    one.crash();
    world.until_run(&two, run, "finished").await;
    assert_eq!(world.seen.count("h2 discovers from 2"), 1);
}

/// An administrator ends the session. The host takes its lock again before others conclude anything.
#[tokio::test]
async fn a_host_that_only_lost_its_session_keeps_its_work() {
    needs!(Postgres);
    let world = World::on(Kind::Postgres).await;
    let (one, two, gate) = works_beside_another(&world).await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'tidemill-presence'";
    for _ in 0..3 {
        execute(&world.database.url, end).await;
        until_held(&world.database, 2).await;
        watched(&world, 2).await;
    }
    gate.open();
    world.until_state(&one, "a", State::Resolved).await;
    assert_eq!(two.attempts("a").await, "#1 resolved 12:00:30Z\n");
    // The new sessions notice the end of a process like the first ones.
    world.script.finds(&["b"]);
    world.script.holds("b");
    world.script.holds("b");
    let _run = one.trigger().await;
    let begun = || async {
        let begun = |host: &str| world.seen.has(&format!("{host} begins b #1"));
        (begun("h1") || begun("h2")).then(|| begun("h1"))
    };
    let (first, second, name) = match world.until("b to begin", begun).await {
        true => (one, two, "h2"),
        false => (two, one, "h1"),
    };
    first.crash();
    world.until_seen(&format!("{name} recovered b")).await;
    drop(second);
}

/// All sessions end at once: no host takes the work of another one that runs on.
#[tokio::test]
async fn a_restart_of_the_server_takes_no_work_away() {
    needs!(Postgres);
    let world = World::on(Kind::Postgres).await;
    let (one, two, gate) = works_beside_another(&world).await;
    world.database.cut_off().await;
    world.database.let_in().await;
    until_held(&world.database, 2).await;
    watched(&world, 2).await;
    gate.open();
    world.until_state(&one, "a", State::Resolved).await;
    assert_eq!(two.attempts("a").await, "#1 resolved 12:00:30Z\n");
    assert!(!world.seen.has("h2 recovered a"));
}
