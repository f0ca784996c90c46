//! The id of a host belongs to one process at a time.

use test_support::on_both;

use super::support::{T, at, host, incarnation, job, lease, start};
use crate::hosts::{HostLocation, HostStart, Life, Renewal, Taking};

on_both!(
    a_start_beside_a_running_host_is_refused,
    host_without_heartbeat_is_replaced,
    stopped_or_restarted_host_is_replaced_at_once,
    a_process_that_lost_its_id_renews_and_stops_nothing,
    a_host_without_a_row_renews_and_registers_again,
    one_of_many_simultaneous_starts_takes_the_id,
    a_row_from_before_incarnations_is_taken_after_a_lease,
);

const COPY: u128 = 9;

fn folder(name: &str) -> HostLocation {
    HostLocation::Folder(name.to_owned())
}

/// Host 1 started from a copy of its data folder.
fn copy() -> HostStart {
    HostStart { place: folder("elsewhere"), ..start(1, "alpha", incarnation(COPY)) }
}

async fn occupied(t: &T, lapsed: Option<&Life>, now: i64) -> Life {
    match t.store.hosts().take(&copy(), lapsed, at(now)).await.unwrap() {
        Taking::Occupied(life) => life,
        Taking::Taken => panic!("the copy took the id"),
    }
}

async fn a_start_beside_a_running_host_is_refused(t: T) {
    t.host_started(1, "alpha", 0).await;
    let first = occupied(&t, None, 1).await;
    assert_eq!((first.name.as_str(), first.beats), ("alpha", 0));
    assert_eq!(first.incarnation, incarnation(1).to_string());
    assert_eq!(occupied(&t, None, 2).await, first, "a refused start changes nothing");
    t.store.items().renew(lease(1, 3)).await.unwrap();
    let second = occupied(&t, Some(&first), 16).await;
    assert_eq!(second.beats, 1, "a renewal shows that the other process is alive");
    t.store.hosts().refuse(&copy(), &second, at(16)).await.unwrap();
    let trail = t.store.audit().list(1).await.unwrap();
    assert_eq!((trail[0].action.as_str(), trail[0].subject.clone()), ("host_refused", host(1).to_string()));
    let hosts = t.store.hosts().list(9).await.unwrap();
    assert_eq!((hosts.len(), hosts[0].incarnation), (1, Some(incarnation(1))));
    // An unknown place equals no other place.
    t.tamper("UPDATE host SET place = ''").await.unwrap();
    let unknown = HostStart { place: HostLocation::Unknown, ..copy() };
    let taking = t.store.hosts().take(&unknown, None, at(17)).await.unwrap();
    assert_eq!(taking, Taking::Occupied(second));
}

async fn host_without_heartbeat_is_replaced(t: T) {
    t.host_started(1, "alpha", 0).await;
    t.store.items().renew(lease(1, 5)).await.unwrap();
    let life = occupied(&t, None, 6).await;
    assert_eq!(t.store.hosts().take(&copy(), Some(&life), at(21)).await.unwrap(), Taking::Taken);
    assert_eq!(t.store.hosts().list(1).await.unwrap()[0].incarnation, Some(incarnation(COPY)));
    let late = HostStart { incarnation: incarnation(10), place: folder("third"), ..copy() };
    let taking = t.store.hosts().take(&late, Some(&life), at(21)).await.unwrap();
    assert!(matches!(taking, Taking::Occupied(_)), "of two that wait, one follows: {taking:?}");
}

async fn stopped_or_restarted_host_is_replaced_at_once(t: T) {
    t.host_started(1, "alpha", 0).await;
    let again = HostStart { incarnation: incarnation(2), ..start(1, "alpha", incarnation(1)) };
    assert_eq!(t.store.hosts().take(&again, None, at(1)).await.unwrap(), Taking::Taken, "the same place");
    occupied(&t, None, 2).await;
    t.store.hosts().stopped(host(1), incarnation(2), at(3)).await.unwrap();
    assert_eq!(t.store.hosts().take(&copy(), None, at(4)).await.unwrap(), Taking::Taken);
    assert_eq!(t.store.hosts().list(1).await.unwrap()[0].stopped_at, None);
}

async fn a_process_that_lost_its_id_renews_and_stops_nothing(t: T) {
    t.host_started(1, "alpha", 0).await;
    t.discover(&job(), &["a"], 0).await;
    let claimed = t.claim_one(0).await;
    let life = occupied(&t, None, 1).await;
    assert_eq!(t.store.hosts().take(&copy(), Some(&life), at(16)).await.unwrap(), Taking::Taken);
    let renewal = t.store.items().renew(lease(1, 17)).await.unwrap();
    let Renewal::Displaced(other) = renewal else { panic!("another process has the id: {renewal:?}") };
    assert_eq!(other.incarnation, incarnation(COPY).to_string());
    t.store.hosts().keep_heartbeat(host(1), incarnation(1), at(1_000)).await.unwrap();
    t.store.hosts().stopped(host(1), incarnation(1), at(18)).await.unwrap();
    let hosts = t.store.hosts().list(1).await.unwrap();
    assert_eq!((hosts[0].heartbeat_at, hosts[0].stopped_at), (at(16), None));
    let recovered = t.store.items().recover(None, |_| 3, at(16)).await.unwrap();
    assert_eq!(recovered.len(), 1, "the lease of {} was not renewed", claimed.key);
}

async fn a_host_without_a_row_renews_and_registers_again(t: T) {
    t.host_started(1, "alpha", 0).await;
    t.discover(&job(), &["a"], 0).await;
    t.claim_one(0).await;
    t.tamper("DELETE FROM host").await.unwrap();
    assert_eq!(t.store.items().renew(lease(1, 10)).await.unwrap(), Renewal::Unregistered);
    assert!(t.store.items().recover(None, |_| 3, at(16)).await.unwrap().is_empty(), "the lease was renewed");
    t.host_started(1, "alpha", 10).await;
    assert_eq!(t.store.items().renew(lease(1, 15)).await.unwrap(), Renewal::Renewed);
}

async fn one_of_many_simultaneous_starts_takes_the_id(t: T) {
    t.host_started(1, "alpha", 0).await;
    let life = occupied(&t, None, 1).await;
    let start_at_once = |number: u128| {
        let start =
            HostStart { incarnation: incarnation(number), place: folder(&number.to_string()), ..copy() };
        let (store, life) = (t.store.clone(), life.clone());
        tokio::spawn(async move { store.hosts().take(&start, Some(&life), at(16)).await.unwrap() })
    };
    let starts: Vec<_> = (10..20).map(start_at_once).collect();
    let mut taken = 0;
    for start in starts {
        taken += usize::from(start.await.unwrap() == Taking::Taken);
    }
    assert_eq!(taken, 1);
}

async fn a_row_from_before_incarnations_is_taken_after_a_lease(t: T) {
    t.host_started(1, "alpha", 0).await;
    t.tamper("UPDATE host SET incarnation = '', place = '', beats = 0").await.unwrap();
    assert_eq!(t.store.hosts().list(1).await.unwrap()[0].incarnation, None);
    let life = occupied(&t, None, 1).await;
    assert_eq!(t.store.hosts().take(&copy(), Some(&life), at(16)).await.unwrap(), Taking::Taken);
    // A process that has locked the whole store need not wait.
    t.tamper("UPDATE host SET incarnation = '', place = ''").await.unwrap();
    let alone = HostStart { place: HostLocation::WholeStore, ..copy() };
    assert_eq!(t.store.hosts().take(&alone, None, at(17)).await.unwrap(), Taking::Taken);
}
