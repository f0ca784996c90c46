//! One process at a time runs under a host's id. A copy of a data folder holds the same id: its process would take back
//! the items of the other process, and both would renew the same leases.
//!
//! The row of a host names the process that runs under it (its incarnation), the place where that process runs, and how
//! often it has renewed its leases. A start takes the row at once if the former process stopped or ran in the same place.
//! Otherwise the start waits for the time of a lease and is refused if it sees a renewal. It counts renewals and does not
//! compare heartbeats with its clock: a host sets its clock by the database's only when it renews, so a heartbeat can lie
//! far from the present.

use domain::clock::Clock;
use domain::id::{HostId, Incarnation};
use jiff::Timestamp;
use store::hosts::{HostLocation, HostStart, Life, Taking};
use store::{Store, StoreError};

use crate::config::EngineConfig;
use crate::ctx::Ctx;
use crate::timer::until;

/// A waiting start reads the row this many times during one lease.
const READS: i32 = 10;

/// The identity of a host.
#[derive(Debug, Clone)]
pub struct Identity {
    pub id: HostId,
    pub place: HostLocation,
}

/// A start that is registered.
pub(crate) struct Started {
    pub start: HostStart,
    /// The former process did not stop, and may still run. Its leases have ended, unless it claimed something just now.
    pub has_waited: bool,
}

/// Registers this start under the host's id, or fails because another process runs under it.
pub(crate) async fn take(
    identity: Identity,
    config: &EngineConfig,
    store: &Store,
    clock: &Clock,
) -> Result<Started, StoreError> {
    let Identity { id, place } = identity;
    let incarnation = Incarnation::new(clock.now());
    let start = HostStart { id, incarnation, name: config.host_name.clone(), place };
    let Taking::Occupied(first) = store.hosts().take(&start, None, clock.now()).await? else {
        return Ok(Started { start, has_waited: false });
    };
    tracing::warn!(
        host = %start.id,
        name = first.name,
        seconds = config.lease_ttl.as_secs_f64(),
        "another process may run under this host's id: waiting for one lease period"
    );
    // Counted from the answer: the other process may have renewed its leases just before it.
    let seen_at = clock.now();
    loop {
        let next = clock.now().checked_add(config.lease_ttl / READS).unwrap_or(Timestamp::MAX);
        until(clock, Some(next)).await;
        let has_lapsed = clock.now().duration_since(seen_at) >= config.lease_ttl;
        match store.hosts().take(&start, has_lapsed.then_some(&first), clock.now()).await? {
            Taking::Taken => return Ok(Started { start, has_waited: true }),
            Taking::Occupied(life) if life == first => {}
            Taking::Occupied(life) => return Err(refuse(&start, &life, store, clock).await),
        }
    }
}

async fn refuse(start: &HostStart, running: &Life, store: &Store, clock: &Clock) -> StoreError {
    if let Err(error) = store.hosts().refuse(start, running, clock.now()).await {
        tracing::warn!(%error, "the refused start could not be recorded in the audit trail");
    }
    StoreError::Unusable(format!(
        "another process runs as host {} (name {:?}, incarnation {}). To run a second host, remove the file host-id \
         from this data folder: the host gets an id of its own. To move the host here, stop the other process first",
        start.id, running.name, running.incarnation
    ))
}

/// Registers this process again after its row was removed.
pub(crate) async fn register_again(ctx: &Ctx) -> Result<(), StoreError> {
    tracing::warn!("the row of this host was removed: it registers again");
    // If another process was faster, the next renewal finds it.
    ctx.store.hosts().take(&ctx.start, None, ctx.clock.now()).await.map(|_| ())
}

/// Ends the work of this process: another one has taken over its id.
pub(crate) fn give_up(ctx: &Ctx, by: &Life) {
    if ctx.displaced.is_cancelled() {
        return;
    }
    tracing::error!(
        host = %ctx.host(),
        name = by.name,
        incarnation = by.incarnation,
        "another process has taken over the id of this host: this process stops"
    );
    ctx.store.items().let_lapse(ctx.host(), |_| true);
    ctx.stop.cancel();
    ctx.cut.cancel();
    ctx.displaced.cancel();
}
