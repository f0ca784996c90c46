//! Which item is to blame for the crash of a whole host.

use jiff::{SignedDuration, Timestamp};

use super::at;
use crate::suspect::{Blame, Lost, SUSPECT_CRASHES, judge};

fn now() -> Timestamp {
    at("2026-11-20T12:00:00Z")
}

/// The decisions on items with these numbers of consecutive crashes. The limit is five.
fn judged(crashes: &[u32]) -> Vec<Blame> {
    let lost: Vec<Lost> = crashes.iter().map(|&crashes| Lost { crashes, crashes_max: 5 }).collect();
    judge(&lost, suspects(&lost), now())
}

fn suspects(lost: &[Lost]) -> usize {
    lost.iter().filter(|lost| lost.crashes >= SUSPECT_CRASHES).count()
}

fn again(seconds: i64) -> Blame {
    Blame::Again(now() + SignedDuration::from_secs(seconds))
}

#[test]
fn a_first_crash_delays_nothing() {
    assert_eq!(judged(&[1, 1, 1, 1]), [again(0); 4]);
}

#[test]
fn suspects_are_put_back_one_after_another() {
    assert_eq!(judged(&[2, 1, 2, 2]), [again(0), again(0), again(2), again(4)]);
    assert_eq!(judged(&[4, 4]), [again(0), again(8)]);
    assert_eq!(judged(&[100, 100]), [again(0), again(600)]);
}

#[test]
fn only_the_single_suspect_is_poison() {
    assert_eq!(judged(&[5]), [Blame::Poison]);
    assert_eq!(judged(&[1, 5, 1]), [again(0), Blame::Poison, again(0)]);
    assert_eq!(judged(&[5, 5]), [again(0), again(16)], "one of them may be a bystander");
    assert_eq!(judged(&[5, 2]), [again(0), again(2)]);
}

/// A job that allows one crash: its item is poison unless another item is a suspect.
#[test]
fn a_job_may_allow_a_single_crash() {
    let one = Lost { crashes: 1, crashes_max: 1 };
    assert_eq!(judge(&[one], 0, now()), [Blame::Poison]);
    let suspect = Lost { crashes: 3, crashes_max: 5 };
    assert_eq!(judge(&[one, suspect], 1, now()), [again(0); 2]);
}

/// One item crashes its host on each attempt, with four others beside it. The others succeed once they run
/// separately.
#[test]
fn bystanders_are_cleared() {
    let mut crashes = [0_u32; 5];
    let mut due = [now(); 5];
    let mut open = [true; 5];
    let mut time = now();
    for _ in 0..100 {
        // An attempt takes one second. Item 2 crashes its host immediately.
        let runs: Vec<usize> = (0..5).filter(|&n| open[n] && due[n] <= time).collect();
        runs.iter().for_each(|&n| crashes[n] += 1);
        if runs.contains(&2) {
            let lost: Vec<Lost> =
                runs.iter().map(|&n| Lost { crashes: crashes[n], crashes_max: 5 }).collect();
            for (&n, blame) in runs.iter().zip(judge(&lost, suspects(&lost), time)) {
                match blame {
                    Blame::Again(at) => due[n] = at,
                    Blame::Poison => {
                        assert_eq!(n, 2);
                        assert!((5..=6).contains(&crashes[2]), "{crashes:?}");
                        open[2] = false;
                    }
                }
            }
        } else {
            runs.iter().for_each(|&n| open[n] = false);
        }
        time += SignedDuration::from_secs(1);
    }
    assert_eq!(open, [false; 5], "the killer is found, the others are done: {crashes:?}");
}
