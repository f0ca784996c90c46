//! Presence: holds the presence lock of this process, and watches those of other hosts. The work of a process that has
//! ended is put back at once. Leases remain the rule for processes that are stopped or cut off, because their
//! sessions continue, and whenever this host has no session itself.
//!
//! Sessions live in real time, so this loop does not use the engine's clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use store::StoreError;
use store::hosts::presence::{HostProcess, Presence, Sighting};
use tokio::time::Instant;

use crate::ctx::Ctx;
use crate::metrics;
use crate::recovery;

/// Interval of the looks at the locks of other hosts.
const LOOK_PERIOD: Duration = Duration::from_millis(200);
/// A lock that is free for this long, in each of at least [`LOOKS_MIN`] looks, belongs to a process that has ended. A
/// process that only lost its session notices that at its next look, and takes the lock again in less time.
const FREE_TIME_MIN: Duration = Duration::from_millis(500);
const LOOKS_MIN: u32 = 3;
/// Wait after a failed try to take the lock. It doubles with each further failure.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// A session that lasted this long is replaced without a wait.
const LASTED_MIN: Duration = Duration::from_secs(1);

/// Runs until the last attempt has ended, so that a host that stops slowly keeps its work.
pub async fn run(ctx: Arc<Ctx>) {
    let mut retry = RETRY_FIRST;
    let mut was_held = true;
    loop {
        let taken = tokio::select! {
            taken = ctx.store.hosts().presence(ctx.host(), ctx.start.incarnation) => taken,
            _ = ctx.ended.cancelled() => return,
        };
        let error = match taken {
            Ok(None) => return ctx.ended.cancelled().await,
            Ok(Some(presence)) => {
                let taken_at = Instant::now();
                let Err(error) = watch(&ctx, presence, &mut was_held).await else { return };
                if taken_at.elapsed() >= LASTED_MIN {
                    retry = RETRY_FIRST;
                    tracing::info!(%error, "the session with the presence lock of this host ended; it takes the lock again");
                    continue;
                }
                error
            }
            Err(error) => error,
        };
        if std::mem::replace(&mut was_held, false) {
            tracing::warn!(%error, "this host has no presence lock; until it has, leases alone decide when work moves");
        }
        tokio::select! {
            _ = ctx.ended.cancelled() => return,
            _ = tokio::time::sleep(retry) => {}
        }
        retry = (retry * 2).min(RETRY_MAX);
    }
}

/// Holds the lock and watches those of other hosts, until the session is lost or the host has ended.
async fn watch(ctx: &Ctx, mut presence: Presence, was_held: &mut bool) -> Result<(), StoreError> {
    let mut absences = Absences::default();
    loop {
        let now = ctx.clock.now();
        // The leases of a host without a heartbeat since then have ended.
        let since = now.checked_sub(ctx.config.lease_ttl).unwrap_or(Timestamp::MIN);
        let others = presence.others(since).await?;
        metrics::round_done("presence", now);
        if !std::mem::replace(was_held, true) {
            tracing::info!("this host has its presence lock again");
        }
        for process in absences.note(others, Instant::now()) {
            if ctx.stop.is_cancelled() {
                continue;
            }
            match recovery::of_ended(ctx, &process).await {
                Ok(true) => absences.settled(&process),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "recovery failed; it is tried again"),
            }
        }
        tokio::select! {
            _ = ctx.ended.cancelled() => {
                presence.end().await;
                return Ok(());
            }
            _ = tokio::time::sleep(LOOK_PERIOD) => {}
        }
    }
}

/// What one session has seen of the locks of other processes. A lock that was never held in this time says nothing.
#[derive(Default)]
struct Absences(HashMap<HostProcess, Option<Absence>>);

/// Consecutive looks that found a lock free.
#[derive(Debug, Clone, Copy)]
struct Absence {
    since: Instant,
    looks: u32,
}

impl Absences {
    /// Adds a look, and returns the processes that have ended.
    fn note(&mut self, others: Vec<Sighting>, now: Instant) -> Vec<HostProcess> {
        let mut noted = HashMap::new();
        let mut ended = Vec::new();
        for Sighting { process, is_present } in others {
            if is_present {
                noted.insert(process, None);
                continue;
            }
            let Some(before) = self.0.remove(&process) else { continue };
            let before = before.unwrap_or(Absence { since: now, looks: 0 });
            let absence = Absence { looks: before.looks + 1, ..before };
            if absence.looks >= LOOKS_MIN && now.duration_since(absence.since) >= FREE_TIME_MIN {
                ended.push(process.clone());
            }
            noted.insert(process, Some(absence));
        }
        self.0 = noted;
        ended
    }

    /// The work of this process was put back.
    fn settled(&mut self, process: &HostProcess) {
        self.0.remove(process);
    }
}

#[cfg(test)]
mod tests {
    use domain::id::{HostId, Incarnation};

    use super::*;

    fn process(incarnation: u128) -> HostProcess {
        let id = uuid::Uuid::from_u128;
        HostProcess { host: HostId(id(1)), incarnation: Incarnation(id(incarnation)), name: "two".to_owned() }
    }

    /// The looks of one watcher, [`LOOK_PERIOD`] apart.
    struct Looks {
        absences: Absences,
        at: Instant,
    }

    impl Looks {
        fn new() -> Looks {
            Looks { absences: Absences::default(), at: Instant::now() }
        }

        fn see(&mut self, process: &HostProcess, is_present: bool) -> Vec<HostProcess> {
            self.at += LOOK_PERIOD;
            self.absences.note(vec![Sighting { process: process.clone(), is_present }], self.at)
        }
    }

    #[test]
    fn a_process_has_ended_when_its_lock_stays_free() {
        let mut looks = Looks::new();
        let two = process(2);
        assert_eq!(looks.see(&two, true), []);
        for _ in 0..3 {
            assert_eq!(looks.see(&two, false), [], "it may take the lock again");
        }
        assert_eq!(looks.see(&two, false), std::slice::from_ref(&two));
        assert_eq!(looks.see(&two, false), std::slice::from_ref(&two), "until its work was put back");
        looks.absences.settled(&two);
        assert_eq!(looks.see(&two, false), []);
    }

    #[test]
    fn a_lock_that_was_never_held_says_nothing() {
        let mut looks = Looks::new();
        for _ in 0..20 {
            assert_eq!(looks.see(&process(2), false), []);
        }
    }

    #[test]
    fn a_lock_that_was_taken_again_was_only_lost() {
        let mut looks = Looks::new();
        let two = process(2);
        for is_present in [true, false, false, true, false, false, true, false] {
            assert_eq!(looks.see(&two, is_present), []);
        }
    }

    #[test]
    fn a_late_look_is_no_proof() {
        let mut looks = Looks::new();
        let two = process(2);
        looks.see(&two, true);
        looks.see(&two, false);
        looks.at += FREE_TIME_MIN * 2;
        assert_eq!(looks.see(&two, false), [], "two looks are too few");
    }

    #[test]
    fn the_next_start_of_a_host_is_another_process() {
        let mut looks = Looks::new();
        looks.see(&process(2), true);
        looks.see(&process(2), false);
        for _ in 0..20 {
            assert_eq!(looks.see(&process(3), false), []);
        }
    }
}
