//! How a key generation will end: settled by the dice when the request arrives.

use crate::dice::roll;
use crate::mpc::MpcConfig;

/// From this request of a user on, each succeeds; so every wallet ends complete, and the show has an end.
pub const ALWAYS_SUCCEEDS_FROM: u64 = 4;
/// Up to this request the configured chances count in full, between the two bounds by half.
const FULL_CHANCES_UNTIL: u64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Completed,
    Failed,
    /// Stays in `generating` for ever.
    Hung,
    /// Says `completed`, with one address missing.
    Inconsistent,
}

impl Outcome {
    /// `nth` counts the requests of this user from 1. Chances that add up to more than 100 % leave none for success.
    pub fn decide(config: &MpcConfig, user_id: i64, nth: u64) -> Outcome {
        if nth >= ALWAYS_SUCCEEDS_FROM {
            return Outcome::Completed;
        }
        let halved = if nth > FULL_CHANCES_UNTIL { 2 } else { 1 };
        let chances = [
            (config.fail_percent, Outcome::Failed),
            (config.hang_percent, Outcome::Hung),
            (config.inconsistent_percent, Outcome::Inconsistent),
        ];
        // In hundredths of a percent, so that half of 25 % does not become 12 %.
        let rolled = roll(config.seed, &[user_id.cast_unsigned(), nth]) % 10_000;
        let mut bound = 0;
        for (percent, outcome) in chances {
            bound += u64::from(percent) * 100 / halved;
            if rolled < bound {
                return outcome;
            }
        }
        Outcome::Completed
    }

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::Failed => "failed",
            Outcome::Hung => "hung",
            Outcome::Inconsistent => "inconsistent",
        }
    }
}
