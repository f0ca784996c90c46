//! The simulated MPC service. It accepts requests for key generations and processes them in the background.
//! Like a real service it fails, hangs or answers wrongly for some of them.

use std::sync::Arc;

use tokio::sync::watch;

use crate::dice::roll;
use crate::outcome::Outcome;
use crate::request::KeygenRequest;
use crate::session::{self, Received};
use crate::time::Time;
use crate::world::World;

/// More concurrent sessions than this are refused.
pub const MAX_SESSIONS_IN_FLIGHT: usize = 1_000;

/// The percentages apply to a user's first two requests, and half of them to the third. From the fourth on
/// each request succeeds.
#[derive(Clone, Debug)]
pub struct MpcConfig {
    pub fail_percent: u32,
    pub hang_percent: u32,
    pub inconsistent_percent: u32,
    /// Average duration of a key generation, in simulated time. The actual one is 0.5 to 1.5 times as long.
    pub keygen_ms: u64,
    pub seed: u64,
}

impl Default for MpcConfig {
    /// A lively show of two minutes if a minute passes in two seconds.
    fn default() -> MpcConfig {
        MpcConfig { fail_percent: 25, hang_percent: 12, inconsistent_percent: 8, keygen_ms: 20_000, seed: 1 }
    }
}

/// `requested` is always the sum of `completed`, `failed`, `hung`, `inconsistent`, `superseded`, `broken` and `in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MpcStats {
    /// New sessions that were accepted.
    pub requested: u64,
    pub completed: u64,
    pub failed: u64,
    pub hung: u64,
    pub inconsistent: u64,
    /// Ended without a result, because the user's status had changed to another session.
    pub superseded: u64,
    /// Ended by an error of the business database.
    pub broken: u64,
    pub in_flight: usize,
    /// Requests that occupy a place and are not yet known to be new sessions.
    pub arriving: usize,
    /// Sessions that were sent again.
    pub duplicate_sessions: u64,
    /// Refused requests: malformed, for unknown users, or too many at once.
    pub refused: u64,
}

impl MpcStats {
    fn places(&self) -> usize {
        self.in_flight + self.arriving
    }
}

/// Clones share the same service.
#[derive(Clone)]
pub struct Mpc {
    world: World,
    config: MpcConfig,
    time: Time,
    stats: Arc<watch::Sender<MpcStats>>,
    max_in_flight: usize,
}

impl Mpc {
    pub fn new(world: World, config: MpcConfig, time: Time) -> Mpc {
        Mpc::with_limit(world, config, time, MAX_SESSIONS_IN_FLIGHT)
    }

    pub(crate) fn with_limit(world: World, config: MpcConfig, time: Time, max_in_flight: usize) -> Mpc {
        Mpc { world, config, time, stats: Arc::new(watch::Sender::new(MpcStats::default())), max_in_flight }
    }

    pub fn stats(&self) -> MpcStats {
        *self.stats.borrow()
    }

    /// Waits until no session is in flight and no request is arriving.
    pub async fn settled(&self) {
        let mut stats = self.stats.subscribe();
        // The sender belongs to `self`, so the channel cannot be closed here.
        let _ = stats.wait_for(|stats| stats.places() == 0).await;
    }

    /// Accepts one `MpcKeygenRequested` and processes it in the background. A session that was accepted
    /// before is ignored without an error. After an error no session was stored, and the same one may be sent
    /// again.
    pub async fn handle(&self, payload: &str) -> Result<(), String> {
        let taken = self.take(payload).await;
        if let Err(reason) = &taken {
            self.stats.send_modify(|stats| stats.refused += 1);
            tracing::warn!(reason, "mpc refused a key generation request");
        }
        taken
    }

    async fn take(&self, payload: &str) -> Result<(), String> {
        let request = KeygenRequest::parse(payload)?;
        let mut place = Place::take(self)?;
        let received = session::receive(&self.world, &self.config, &request, self.time.now_ms()).await;
        match received {
            Ok(Received::New(outcome)) => {
                place.begin();
                tokio::spawn(self.clone().work(request, outcome, place));
                Ok(())
            }
            Ok(Received::Duplicate) => {
                self.stats.send_modify(|stats| stats.duplicate_sessions += 1);
                Ok(())
            }
            Ok(Received::UnknownUser) => Err(format!(
                "user_id {} with account_sequence {} is not known; check that both belong to one user and that the user still exists",
                request.user_id, request.account_sequence
            )),
            Ok(Received::SessionOf(owner)) => Err(format!(
                "session_id {} was used before, for user_id {owner}; make a new one for user_id {}",
                request.session_id, request.user_id
            )),
            Err(error) => Err(format!(
                "the mpc service cannot reach its database, send the request again later: {error}"
            )),
        }
    }

    async fn work(self, request: KeygenRequest, outcome: Outcome, mut place: Place) {
        match self.walk(&request, outcome).await {
            Ok(true) => place.end = End::Reached(outcome),
            Ok(false) => place.end = End::Superseded,
            Err(error) => tracing::error!(
                session_id = request.session_id,
                user_id = request.user_id,
                %error,
                "mpc session broke off, its status stays where it was"
            ),
        }
    }

    /// Moves a generation through its statuses. Returns false as soon as the status belongs to another
    /// session.
    async fn walk(&self, request: &KeygenRequest, outcome: Outcome) -> Result<bool, sqlx::Error> {
        let step_ms = self.step_ms(request);
        self.time.sleep(step_ms).await;
        if !self.advance(request, "generating").await? {
            return Ok(false);
        }
        if outcome == Outcome::Hung {
            return Ok(true);
        }
        self.time.sleep(step_ms).await;
        if outcome == Outcome::Failed {
            return self.advance(request, "failed").await;
        }
        if !self.advance(request, "deriving").await? {
            return Ok(false);
        }
        self.time.sleep(step_ms).await;
        let leave_out = usize::from(outcome == Outcome::Inconsistent);
        session::complete(&self.world, request, leave_out, self.time.now_ms()).await
    }

    async fn advance(&self, request: &KeygenRequest, status: &str) -> Result<bool, sqlx::Error> {
        session::advance(&self.world, request, status, self.time.now_ms()).await
    }

    /// A third of this session's duration.
    fn step_ms(&self, request: &KeygenRequest) -> u64 {
        let bytes: Vec<u64> = request.session_id.bytes().map(u64::from).collect();
        let percent = 50 + roll(self.config.seed, &bytes) % 101;
        self.config.keygen_ms.saturating_mul(percent) / 300
    }
}

/// How a session ended.
#[derive(Clone, Copy)]
enum End {
    Reached(Outcome),
    Superseded,
    Broken,
}

/// A place for one session in flight. Dropping it frees the place and records the session's end, so that the
/// counts add up at every moment, even after a panic.
struct Place {
    stats: Arc<watch::Sender<MpcStats>>,
    begun: bool,
    end: End,
}

impl Place {
    fn take(mpc: &Mpc) -> Result<Place, String> {
        let mut free = false;
        mpc.stats.send_if_modified(|stats| {
            free = stats.places() < mpc.max_in_flight;
            stats.arriving += usize::from(free);
            free
        });
        if !free {
            return Err(format!(
                "{} sessions are in flight and no more are taken, send the request again later",
                mpc.max_in_flight
            ));
        }
        Ok(Place { stats: mpc.stats.clone(), begun: false, end: End::Broken })
    }

    /// From here on the place counts as a session, however it ends.
    fn begin(&mut self) {
        self.begun = true;
        self.stats.send_modify(|stats| {
            stats.arriving -= 1;
            stats.in_flight += 1;
            stats.requested += 1;
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stats.send_modify(|stats| {
            if !self.begun {
                stats.arriving -= 1;
                return;
            }
            stats.in_flight -= 1;
            let count = match self.end {
                End::Reached(Outcome::Completed) => &mut stats.completed,
                End::Reached(Outcome::Failed) => &mut stats.failed,
                End::Reached(Outcome::Hung) => &mut stats.hung,
                End::Reached(Outcome::Inconsistent) => &mut stats.inconsistent,
                End::Superseded => &mut stats.superseded,
                End::Broken => &mut stats.broken,
            };
            *count += 1;
        });
    }
}
