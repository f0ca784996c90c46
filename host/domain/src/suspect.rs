//! Which items are to blame when a whole host crashes. A crash is counted for each item with a running
//! attempt, but only one of them may have caused it.
//!
//! An item that was lost twice in a row is a suspect. Suspects that were lost together are put back one after
//! another, so that they run separately. An innocent item ends its attempt and is cleared. The item that
//! crashes its host does so without another suspect, and only then it is poison.

use jiff::{SignedDuration, Timestamp};

/// Crashes in a row that make a suspect. A single crash may be a power failure, which must not delay the
/// interrupted items.
pub const SUSPECT_CRASHES: u32 = 2;
/// Delay between the starts of two suspects. Doubled with each crash in a row, for attempts that take longer.
const APART_MIN: SignedDuration = SignedDuration::from_secs(2);
const APART_MAX: SignedDuration = SignedDuration::from_mins(10);

/// An item that was lost in a crash of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Crashes in a row, this one included.
    pub crashes: u32,
    /// The job's limit of crashes.
    pub crashes_max: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Retried from this instant on.
    Again(Timestamp),
    /// It crashed its host often enough, the last time as the only suspect.
    Poison,
}

/// Decides on the items of one host that crashed. The host held `suspects` suspects in total.
pub fn judge(lost: &[Lost], suspects: usize, now: Timestamp) -> Vec<Blame> {
    let mut before: i32 = 0;
    let judged = |lost: &Lost| {
        let is_suspect = lost.crashes >= SUSPECT_CRASHES;
        let others = suspects.saturating_sub(usize::from(is_suspect));
        if lost.crashes >= lost.crashes_max && others == 0 {
            return Blame::Poison;
        }
        if !is_suspect {
            return Blame::Again(now);
        }
        let wait = apart(lost.crashes).saturating_mul(before);
        before = before.saturating_add(1);
        Blame::Again(now.checked_add(wait).unwrap_or(Timestamp::MAX))
    };
    lost.iter().map(judged).collect()
}

fn apart(crashes: u32) -> SignedDuration {
    let doublings = crashes.saturating_sub(SUSPECT_CRASHES).min(16);
    APART_MIN.saturating_mul(1 << doublings).min(APART_MAX)
}
