//! One process at a time runs under a host's id. A copy of a data folder contains the same id. Its process
//! would put back the work of the original process, and both would renew the same leases.
//!
//! The row of a host names the process that runs under it (its incarnation), the place where that process
//! runs, and how often it has renewed its leases. A start takes the row if no other process can run under it.
//! Otherwise it observes the row for the duration of a lease and is refused if it sees a renewal. Renewals
//! are counted, not compared by time, because the clocks of two machines may differ.

use domain::clock::Clock;
use domain::id::{HostId, Incarnation};
use store::hosts::{HostStart, Life, Taking};
use store::{Store, StoreError};

use crate::config::EngineConfig;
use crate::engine::Ctx;
use crate::timer::until;

/// How many times per lease duration a waiting start checks for a renewal.
const LOOKS: i32 = 10;

/// The identity of a host.
#[derive(Debug, Clone)]
pub struct Identity {
    pub id: HostId,
    /// Two processes in the same place cannot run at the same time. Empty if the place is unknown.
    pub place: String,
}

/// Registers this start under the host's id, or fails because another process runs under it.
pub(crate) async fn take(
    identity: Identity,
    config: &EngineConfig,
    store: &Store,
    clock: &Clock,
) -> Result<Incarnation, StoreError> {
    let start = HostStart {
        id: identity.id,
        incarnation: Incarnation::new(clock.now()),
        name: config.host_name.clone(),
        place: identity.place,
    };
    let Taking::Occupied(first) = store.take_host(&start, None, clock.now()).await? else {
        return Ok(start.incarnation);
    };
    tracing::info!(
        host = %start.id,
        name = first.name,
        seconds = config.lease_ttl.as_secs_f64(),
        "this host did not stop in an orderly way, and another process may run under its id: waiting for a sign of it"
    );
    // Measured from the arrival of the answer: the other process may have renewed its leases just before.
    let seen_at = clock.now();
    loop {
        let next = clock.now().checked_add(config.lease_ttl / LOOKS).unwrap_or(jiff::Timestamp::MAX);
        until(clock, Some(next)).await;
        let has_lapsed = clock.now().duration_since(seen_at) >= config.lease_ttl;
        match store.take_host(&start, has_lapsed.then_some(&first), clock.now()).await? {
            Taking::Taken => return Ok(start.incarnation),
            Taking::Occupied(life) if life == first => {}
            Taking::Occupied(life) => return Err(refuse(&start, &life, store, clock).await),
        }
    }
}

async fn refuse(start: &HostStart, running: &Life, store: &Store, clock: &Clock) -> StoreError {
    if let Err(error) = store.refuse_host(start, running, clock.now()).await {
        tracing::warn!(%error, "the refusal could not be recorded in the audit trail");
    }
    StoreError::Unusable(format!(
        "another process runs as host {}: it is called {:?}, its incarnation is {}. If this data folder is a copy of \
         that host's, remove the file host-id from the copy, and this host gets an id of its own; otherwise stop the \
         other process first",
        start.id, running.name, running.incarnation
    ))
}

/// Ends the work of this process because another one has taken over its id.
pub(crate) fn give_up(ctx: &Ctx, by: &Life) {
    if ctx.displaced.is_cancelled() {
        return;
    }
    tracing::error!(
        host = %ctx.host,
        name = by.name,
        incarnation = by.incarnation,
        "another process took over the id of this host, which had not renewed its leases for too long: this one stops"
    );
    ctx.store.let_lapse(ctx.host, |_| true);
    ctx.stop.cancel();
    ctx.cut.cancel();
    ctx.displaced.cancel();
}
