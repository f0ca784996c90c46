//! The simulated MPC service.

use test_support::on_both;
use uuid::Uuid;

use crate::tests::pure::assert_adds_up;
use crate::tests::support::{
    NOW_MS, SEED, ask, payload, pending, seeded, sure, time, user_without_addresses,
};
use crate::{Mpc, MpcConfig, MpcStats, Time, World};

on_both!(
    success_completes_the_wallet,
    failed_hanging_and_inconsistent_sessions_leave_the_wallet_incomplete,
    a_session_is_done_once,
    a_session_of_another_user_is_refused,
    an_old_session_touches_nothing,
    unknown_users_are_refused,
    the_limit_is_kept,
    all_wallets_are_completed_eventually,
    broken_database_is_reported,
);

async fn success_completes_the_wallet(world: World) {
    let mpc = seeded(&world, sure()).await;
    let user = user_without_addresses(&world).await;
    let session = ask(&world, &mpc, user).await;
    mpc.settled().await;

    let status = world.status(user.0).await.unwrap().unwrap();
    assert_eq!(status.status, "completed");
    assert_eq!(status.session_id.as_deref(), Some(session.as_str()));
    assert_eq!(status.request_key.as_deref(), Some("key"));
    assert!(status.updated_at_ms > Some(NOW_MS));
    assert_eq!(world.addresses(user.0).await.unwrap().len(), 3);
    assert_eq!(world.incomplete().await.unwrap(), 59);
    let expected = MpcStats { requested: 1, completed: 1, ..MpcStats::default() };
    assert_eq!(mpc.stats(), expected);
}

async fn failed_hanging_and_inconsistent_sessions_leave_the_wallet_incomplete(world: World) {
    world.seed(NOW_MS, SEED).await.unwrap();
    let user = user_without_addresses(&world).await;
    let cases = [
        (MpcConfig { fail_percent: 100, ..sure() }, "failed", 0),
        (MpcConfig { hang_percent: 100, ..sure() }, "generating", 0),
        (MpcConfig { inconsistent_percent: 200, ..sure() }, "completed", 2),
        (MpcConfig { fail_percent: 100, ..sure() }, "completed", 3),
    ];
    // The third request has half of the percentages, and half of 200 % is still certain. The fourth always
    // succeeds.
    for (config, status, addresses) in cases {
        let mpc = Mpc::new(world.clone(), config, time());
        ask(&world, &mpc, user).await;
        mpc.settled().await;
        assert_eq!(world.status(user.0).await.unwrap().unwrap().status, status);
        assert_eq!(world.addresses(user.0).await.unwrap().len(), addresses);
        assert_adds_up(&mpc.stats());
    }
}

async fn a_session_is_done_once(world: World) {
    let mpc = seeded(&world, MpcConfig { fail_percent: 100, ..sure() }).await;
    let user = user_without_addresses(&world).await;
    let session = Uuid::now_v7().to_string();
    pending(&world, user.0, &session).await;
    let payload = payload(&session, user).to_string();
    let (one, other) = tokio::join!(mpc.handle(&payload), mpc.handle(&payload));
    one.unwrap();
    other.unwrap();
    mpc.settled().await;
    // Another service on the same world, as after a restart, recognises the session too.
    let later = Mpc::new(world.clone(), sure(), time());
    later.handle(&payload).await.unwrap();
    later.settled().await;

    assert_eq!(world.status(user.0).await.unwrap().unwrap().status, "failed");
    let stats = mpc.stats();
    assert_eq!((stats.requested, stats.failed, stats.duplicate_sessions), (1, 1, 1));
    let stats = later.stats();
    assert_eq!((stats.requested, stats.duplicate_sessions, stats.refused), (0, 1, 0));
}

async fn a_session_of_another_user_is_refused(world: World) {
    let mpc = seeded(&world, sure()).await;
    let users = world.incomplete_users(2).await.unwrap();
    let session = ask(&world, &mpc, users[0]).await;
    let stolen = payload(&session, users[1]).to_string();
    let error = mpc.handle(&stolen).await.unwrap_err();
    assert!(error.contains("was used before, for user_id"), "{error}");
    mpc.settled().await;
    assert_eq!(mpc.stats().refused, 1);
}

async fn an_old_session_touches_nothing(world: World) {
    let mpc = seeded(&world, sure()).await;
    let user = user_without_addresses(&world).await;
    pending(&world, user.0, "another").await;
    let before = world.status(user.0).await.unwrap();
    let old = payload(&Uuid::now_v7().to_string(), user).to_string();
    mpc.handle(&old).await.unwrap();
    mpc.settled().await;

    assert_eq!(world.status(user.0).await.unwrap(), before);
    assert!(world.addresses(user.0).await.unwrap().is_empty());
    let expected = MpcStats { requested: 1, superseded: 1, ..MpcStats::default() };
    assert_eq!(mpc.stats(), expected);
}

async fn unknown_users_are_refused(world: World) {
    let mpc = seeded(&world, sure()).await;
    let (user_id, sequence) = world.incomplete_users(1).await.unwrap()[0];
    for user in [(99, 4_102), (user_id, sequence + 1)] {
        let session = Uuid::now_v7().to_string();
        let error = mpc.handle(&payload(&session, user).to_string()).await.unwrap_err();
        assert!(error.contains("is not known"), "{error}");
    }
    assert!(mpc.handle("{").await.is_err());
    let expected = MpcStats { refused: 3, ..MpcStats::default() };
    assert_eq!(mpc.stats(), expected);
}

async fn the_limit_is_kept(world: World) {
    world.seed(NOW_MS, SEED).await.unwrap();
    // Each step takes longer than any test, so the sessions end with the test's runtime.
    let slow = Time { real_ms_per_simulated_ms: 1e9, ..time() };
    let mpc = Mpc::with_limit(world.clone(), sure(), slow, 2);
    let users = world.incomplete_users(3).await.unwrap();
    ask(&world, &mpc, users[0]).await;
    ask(&world, &mpc, users[1]).await;
    let third = payload(&Uuid::now_v7().to_string(), users[2]).to_string();
    let error = mpc.handle(&third).await.unwrap_err();
    assert!(error.contains("2 sessions are in flight"), "{error}");
    let stats = mpc.stats();
    assert_eq!((stats.requested, stats.in_flight, stats.refused), (2, 2, 1));
    // The third request was not stored, so a service with capacity accepts it.
    let roomy = Mpc::new(world.clone(), sure(), time());
    roomy.handle(&third).await.unwrap();
    roomy.settled().await;
    assert_eq!(roomy.stats().requested, 1);
}

async fn all_wallets_are_completed_eventually(world: World) {
    let mpc = seeded(&world, MpcConfig::default()).await;
    let mut rounds = 0;
    loop {
        let users = world.incomplete_users(100).await.unwrap();
        if users.is_empty() {
            break;
        }
        rounds += 1;
        for user in users {
            ask(&world, &mpc, user).await;
        }
        mpc.settled().await;
    }
    assert!((2..=4).contains(&rounds), "{rounds} rounds");
    let stats = mpc.stats();
    assert_adds_up(&stats);
    assert_eq!((stats.in_flight, stats.arriving, stats.broken), (0, 0, 0));
    assert!(stats.failed > 0 && stats.hung > 0 && stats.inconsistent > 0, "{stats:?}");
    let counts = world.counts(NOW_MS).await.unwrap();
    assert_eq!((counts.complete, counts.incomplete), (300, 0));
}

async fn broken_database_is_reported(world: World) {
    let mpc = seeded(&world, sure()).await;
    let user = user_without_addresses(&world).await;
    world.close().await;
    let request = payload(&Uuid::now_v7().to_string(), user).to_string();
    let error = mpc.handle(&request).await.unwrap_err();
    assert!(error.contains("send the request again later"), "{error}");
    let expected = MpcStats { refused: 1, ..MpcStats::default() };
    assert_eq!(mpc.stats(), expected);
}
