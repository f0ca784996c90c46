//! Fair scheduling of a host's slots and memory among its jobs.

use super::at;
use crate::fair::{Capacity, Wish, share};

const HOST: Capacity = Capacity { slots: 16, memory: 1_024 };

/// A job of 64 MiB that wants as much as possible; an earlier `turn` comes first.
fn wish(turn: u8, running: usize) -> Wish {
    let turn = at(&format!("2026-11-20T12:00:{turn:02}Z"));
    Wish { turn, running, memory: 64, wanted: 1_000, waits: true }
}

fn left(running: &[(usize, usize)]) -> Capacity {
    running.iter().fold(HOST, |left, &(attempts, memory)| {
        left.minus(Capacity { slots: attempts, memory: attempts * memory })
    })
}

#[test]
fn a_job_alone_gets_everything() {
    assert_eq!(share(HOST, HOST, Capacity::default(), &[wish(0, 0)]), [16]);
    assert_eq!(share(HOST, left(&[(15, 64)]), Capacity::default(), &[wish(0, 15)]), [1]);
    assert_eq!(share(HOST, HOST, Capacity::default(), &[Wish { wanted: 3, ..wish(0, 0) }]), [3]);
}

#[test]
fn jobs_share_equally_and_leave_what_they_do_not_want() {
    assert_eq!(share(HOST, HOST, Capacity::default(), &[wish(0, 0), wish(1, 0)]), [8, 8]);
    let little = Wish { wanted: 2, ..wish(1, 0) };
    assert_eq!(share(HOST, HOST, Capacity::default(), &[wish(0, 0), little, wish(2, 0)]), [7, 2, 7]);
    assert_eq!(share(HOST, left(&[(10, 64)]), Capacity::default(), &[wish(0, 10), wish(1, 0)]), [0, 6]);
}

#[test]
fn each_idle_job_can_start_one_attempt() {
    let idle = Capacity { slots: 3, memory: 3 * 64 };
    assert_eq!(share(HOST, HOST, idle, &[wish(0, 0)]), [13]);
    assert_eq!(share(HOST, left(&[(13, 64)]), idle, &[wish(0, 13)]), [0]);
    let idle = Capacity { slots: 2, memory: 2 * 64 };
    assert_eq!(share(HOST, left(&[(13, 64)]), idle, &[wish(0, 13), wish(1, 0)]), [0, 1]);
}

#[test]
fn the_reserve_takes_half_of_the_host_at_most() {
    let idle = Capacity { slots: 100, memory: 6_400 };
    assert_eq!(share(HOST, HOST, idle, &[wish(0, 0)]), [8]);
    let one = Capacity { slots: 1, memory: 64 };
    assert_eq!(share(one, one, idle, &[wish(0, 0)]), [1], "the first attempt of a job needs no reserve");
}

#[test]
fn memory_counts_like_slots() {
    let large = Wish { memory: 256, ..wish(0, 0) };
    // Half of the memory each: two of 256 MiB, eight of 64 MiB.
    assert_eq!(share(HOST, HOST, Capacity::default(), &[large.clone(), wish(1, 0)]), [2, 8]);
    let idle = Capacity { slots: 1, memory: 512 };
    assert_eq!(share(HOST, HOST, idle, &[wish(0, 0)]), [8]);
}

#[test]
fn large_attempt_is_waited_for_below_the_fair_share() {
    let large = Wish { memory: 512, ..wish(9, 0) };
    let free = left(&[(12, 64)]);
    assert_eq!(share(HOST, free, Capacity::default(), &[wish(0, 12), large.clone()]), [0, 0]);
    let without = Wish { waits: false, ..large.clone() };
    assert_eq!(
        share(HOST, free, Capacity::default(), &[wish(0, 12), without]),
        [0, 0],
        "its room stays reserved"
    );
    let never = Wish { memory: 2_048, ..large };
    assert_eq!(share(HOST, left(&[(4, 64)]), Capacity::default(), &[wish(0, 4), never]), [4, 0]);
    let second = Wish { memory: 512, running: 1, ..wish(9, 0) };
    let free = left(&[(1, 512), (7, 64)]);
    assert_eq!(
        share(HOST, free, Capacity::default(), &[wish(0, 7), second]),
        [1, 0],
        "half is its fair share"
    );
}

#[test]
fn turns_decide_among_equals() {
    let one = Capacity { slots: 1, memory: 64 };
    assert_eq!(share(HOST, one, Capacity::default(), &[wish(2, 3), wish(1, 3), wish(0, 4)]), [0, 1, 0]);
}

/// Whatever is requested, no more is granted than is free.
#[test]
fn grants_fit_into_what_is_free() {
    for seed in 0..2_000_usize {
        let wishes: Vec<Wish> = (0..1 + seed % 7)
            .map(|n| Wish {
                memory: 1 + (seed * 31 + n * 97) % 600,
                wanted: (seed + n * 5) % 9,
                ..wish(n as u8, (seed + n) % 3)
            })
            .collect();
        let free = Capacity { slots: seed % 17, memory: (seed * 13) % 1_025 };
        let granted = share(HOST, free, Capacity { slots: seed % 4, memory: seed % 300 }, &wishes);
        let memory: usize = granted.iter().zip(&wishes).map(|(n, wish)| n * wish.memory).sum();
        assert!(granted.iter().sum::<usize>() <= free.slots && memory <= free.memory, "seed {seed}");
        assert!(granted.iter().zip(&wishes).all(|(n, wish)| *n <= wish.wanted), "seed {seed}");
    }
}
