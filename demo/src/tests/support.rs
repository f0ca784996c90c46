//! Temporary databases, and the steps of a caller that requests key generations.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use test_support::{Database, Fixture, Kind};
use uuid::Uuid;

use crate::{KeygenStatus, Mpc, MpcConfig, Time, World};

/// 2026-01-05T08:00:00Z
pub const NOW_MS: i64 = 1_767_600_000_000;
pub const SEED: u64 = 7;

impl Fixture for World {
    async fn run<F: Future<Output = ()>>(kind: Kind, case: fn(World) -> F) {
        let database = Database::fresh(kind).await;
        case(World::create(&database.url).await.unwrap()).await;
    }
}

/// A clock that advances one simulated second on each read, with waits that take no time.
pub fn time() -> Time {
    let clock = AtomicI64::new(NOW_MS);
    Time {
        now_ms: Arc::new(move || clock.fetch_add(1_000, Ordering::Relaxed)),
        real_ms_per_simulated_ms: 0.0,
    }
}

/// A service without failures, unless the test sets some.
pub fn sure() -> MpcConfig {
    MpcConfig { fail_percent: 0, hang_percent: 0, inconsistent_percent: 0, ..MpcConfig::default() }
}

pub async fn seeded(world: &World, config: MpcConfig) -> Mpc {
    assert!(world.seed(NOW_MS, SEED).await.unwrap());
    Mpc::new(world.clone(), config, time())
}

pub fn payload(session_id: &str, (user_id, sequence): (i64, i64)) -> serde_json::Value {
    serde_json::json!({
        "session_id": session_id,
        "user_id": user_id,
        "account_sequence": sequence,
        "username": format!("user_{sequence}"),
        "threshold": 2,
        "total_parties": 3,
        "require_delegate": true,
    })
}

/// The write of a retry before its event is sent: the status is pending, with this session.
pub async fn pending(world: &World, user_id: i64, session_id: &str) {
    let status = KeygenStatus {
        status: "pending".to_string(),
        session_id: Some(session_id.to_string()),
        request_key: Some("key".to_string()),
        updated_at_ms: Some(NOW_MS),
    };
    world.set_status(user_id, &status).await.unwrap();
}

/// Requests one generation as the host would, and returns the session's id.
pub async fn ask(world: &World, mpc: &Mpc, user: (i64, i64)) -> String {
    let session_id = Uuid::now_v7().to_string();
    pending(world, user.0, &session_id).await;
    mpc.handle(&payload(&session_id, user).to_string()).await.unwrap();
    session_id
}

/// A user without any address, so that all written addresses can be counted.
pub async fn user_without_addresses(world: &World) -> (i64, i64) {
    for user in world.incomplete_users(100).await.unwrap() {
        if world.addresses(user.0).await.unwrap().is_empty() {
            return user;
        }
    }
    panic!("the seed has no user without addresses");
}
