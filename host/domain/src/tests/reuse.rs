use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::reuse::{ClaimShare, KEPT_PER_CLAIM_MAX, Kept};

/// Counts the instances that exist.
#[derive(Default)]
struct Instances(Arc<AtomicUsize>);

struct Instance(Arc<AtomicUsize>);

impl Instances {
    fn new_one(&self) -> Kept {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::new(Instance(self.0.clone()))
    }

    fn alive(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn the_next_item_of_a_claim_gets_the_instance_of_the_one_before() {
    let instances = Instances::default();
    let mut shares = ClaimShare::of(2);
    assert!(shares[0].start().is_none());
    shares[0].keep(instances.new_one());
    let taken = shares[1].start().expect("the first item left one");
    assert!(taken.is::<Instance>());
    drop(taken);
    assert_eq!(instances.alive(), 0);
}

#[test]
fn nothing_is_kept_once_every_item_has_started() {
    let instances = Instances::default();
    let mut shares = ClaimShare::of(2);
    shares.iter_mut().for_each(|share| drop(share.start()));
    shares[0].keep(instances.new_one());
    assert_eq!(instances.alive(), 0, "no item could use it");
}

#[test]
fn a_claim_keeps_no_more_instances_than_it_has_waiting_items() {
    let instances = Instances::default();
    let mut shares = ClaimShare::of(5);
    for share in &mut shares[..3] {
        assert!(share.start().is_none());
    }
    for share in &shares[..3] {
        share.keep(instances.new_one());
    }
    assert_eq!(instances.alive(), 2, "two items wait");
    // One of them ends without a start, for example because the lease was lost.
    drop(shares.pop());
    assert_eq!(instances.alive(), 1);
    drop(shares.pop());
    assert_eq!(instances.alive(), 0);
}

#[test]
fn an_instance_stays_for_the_other_items_when_one_ends_without_a_start() {
    let instances = Instances::default();
    let mut shares = ClaimShare::of(3);
    assert!(shares[0].start().is_none());
    shares[0].keep(instances.new_one());
    drop(shares.pop());
    assert_eq!(instances.alive(), 1, "another item waits");
    assert!(shares[1].start().is_some());
}

#[test]
fn a_large_claim_keeps_a_bounded_number_of_instances() {
    let instances = Instances::default();
    let mut shares = ClaimShare::of(200);
    for share in &mut shares[..100] {
        assert!(share.start().is_none());
    }
    for share in &shares[..100] {
        share.keep(instances.new_one());
    }
    assert_eq!(instances.alive(), KEPT_PER_CLAIM_MAX);
}

#[test]
fn the_instances_of_a_claim_end_with_its_last_share() {
    let instances = Instances::default();
    let mut shares = ClaimShare::of(3);
    drop(shares[0].start());
    shares[0].keep(instances.new_one());
    drop(shares);
    assert_eq!(instances.alive(), 0);
}

#[test]
fn claims_share_no_instances() {
    let instances = Instances::default();
    let (mut first, mut second) = (ClaimShare::of(2), ClaimShare::of(2));
    assert!(first[0].start().is_none());
    first[0].keep(instances.new_one());
    assert!(second[0].start().is_none());
    assert!(first[1].start().is_some());
}

/// A second start of the same item, which is a mistake of the caller, gets nothing and counts nothing.
#[test]
fn an_item_starts_once() {
    let instances = Instances::default();
    let mut shares = ClaimShare::of(3);
    assert!(shares[0].start().is_none());
    shares[0].keep(instances.new_one());
    assert!(shares[0].start().is_none());
    assert_eq!(instances.alive(), 1);
    assert!(shares[1].start().is_some());
}
