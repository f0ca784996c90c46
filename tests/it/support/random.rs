//! Random numbers from a seed, so that a run can be repeated.

use std::time::Duration;

/// Returns the same numbers for the same seed: `TIDEMILL_TEST_SEED`, or the time.
pub struct Random {
    pub seed: u64,
    state: u64,
}

impl Random {
    pub fn new() -> Random {
        let now = || u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap();
        let given = std::env::var("TIDEMILL_TEST_SEED").ok();
        let seed = given.map_or_else(now, |text| text.parse().expect("TIDEMILL_TEST_SEED is a number"));
        eprintln!("repeat with TIDEMILL_TEST_SEED={seed}");
        Random::of(seed)
    }

    pub fn of(seed: u64) -> Random {
        Random { seed, state: seed | 1 }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Waits until a random moment within this time.
    pub async fn moment(&mut self, within: Duration) {
        let micros = self.below(u64::try_from(within.as_micros()).unwrap().max(1));
        // tidy: sleep because the kill is to come at a random moment, not at an event
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}
