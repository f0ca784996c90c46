//! The result of a key generation, decided by the dice when the request arrives.

use crate::dice::roll;
use crate::mpc::MpcConfig;

/// From this request of a user on, each succeeds. So every wallet becomes complete, and the show ends.
pub const ALWAYS_SUCCEEDS_FROM: u64 = 4;
/// Up to this request the full percentages apply; between the two bounds, half of them.
const FULL_CHANCES_UNTIL: u64 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Completed,
    Failed,
    /// Stays in `generating` for ever.
    Hung,
    /// Reports `completed`, with one address missing.
    Inconsistent,
}

impl Outcome {
    /// `nth` is the number of this user's request, from 1. If the percentages exceed 100 in total, none
    /// succeeds.
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
        // In hundredths of a percent, so that half of 25 % is not rounded to 12 %.
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
