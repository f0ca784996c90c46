//! Initial users, and counts.

use test_support::{Database, Kind, execute, on_both};

use crate::World;
use crate::seed::{Case, FIRST_USER_ID, INCOMPLETE, USERS, plan};
use crate::tests::support::{NOW_MS, SEED};

on_both!(
    seed_has_every_state,
    seed_happens_once,
    seeding_at_once_happens_once,
    a_world_with_other_users_is_left_alone,
    an_empty_world_counts_nothing,
    wallets_can_be_completed,
);

async fn seed_has_every_state(world: World) {
    assert!(world.seed(NOW_MS, SEED).await.unwrap());
    let counts = world.counts(NOW_MS).await.unwrap();
    assert_eq!((counts.users, counts.complete, counts.incomplete), (300, 240, 60));
    assert_eq!(world.incomplete().await.unwrap(), 60);
    // Expired ones count as "no status", those without a time as "unreadable", all old ones as "timed out".
    let expected = [
        ("no status", 10),
        ("failed", 5),
        ("inconsistent", 5),
        ("unreadable", 10),
        ("timed out", 15),
        ("pending", 5),
        ("generating", 5),
        ("deriving", 5),
    ];
    let expected = expected.map(|(word, count)| (word.to_string(), count));
    assert_eq!(counts.by_status, expected);
    for user in plan(NOW_MS, SEED) {
        let addresses = world.addresses(user.user_id).await.unwrap();
        assert_eq!(addresses.len(), user.chains.len());
        let stored = world.status(user.user_id).await.unwrap();
        assert_eq!(
            stored.map(|row| (row.status, row.updated_at_ms)),
            user.status.map(|row| (row.status.to_string(), row.updated_at_ms))
        );
    }
}

async fn seed_happens_once(world: World) {
    assert!(world.seed(NOW_MS, SEED).await.unwrap());
    let user = world.incomplete_users(1).await.unwrap()[0];
    world.complete_wallet(user.0).await.unwrap();
    assert!(!world.seed(NOW_MS + 5, SEED + 1).await.unwrap());
    let counts = world.counts(NOW_MS).await.unwrap();
    assert_eq!((counts.users, counts.incomplete), (300, 59));
}

async fn seeding_at_once_happens_once(world: World) {
    let (one, other) = tokio::join!(world.seed(NOW_MS, SEED), world.seed(NOW_MS, SEED + 1));
    assert_ne!(one.unwrap(), other.unwrap());
    let counts = world.counts(NOW_MS).await.unwrap();
    assert_eq!((counts.users, counts.incomplete), (300, 60));
}

async fn a_world_with_other_users_is_left_alone(world: World) {
    let add = "INSERT INTO user_account (user_id, account_sequence) VALUES (5, 1)";
    on!(&world.pool, |db| sqlx::query(add).execute(db).await.map(drop)).unwrap();
    assert!(!world.seed(NOW_MS, SEED).await.unwrap());
    assert_eq!(world.counts(NOW_MS).await.unwrap().users, 1);
}

async fn an_empty_world_counts_nothing(world: World) {
    assert_eq!(world.incomplete().await.unwrap(), 0);
    assert!(world.counts(NOW_MS).await.unwrap().by_status.is_empty());
}

async fn wallets_can_be_completed(world: World) {
    world.seed(NOW_MS, SEED).await.unwrap();
    let users = world.incomplete_users(100).await.unwrap();
    assert_eq!(users.len() as u64, INCOMPLETE);
    for (user_id, _) in users {
        world.complete_wallet(user_id).await.unwrap();
        world.complete_wallet(user_id).await.unwrap();
        assert_eq!(world.addresses(user_id).await.unwrap().len(), 3);
    }
    assert_eq!(world.incomplete().await.unwrap(), 0);
    let error = world.complete_wallet(5).await.unwrap_err().to_string();
    assert!(error.contains("user 5 is not in the business database"), "{error}");
}

#[test]
fn plan_is_deterministic_and_spread() {
    let users = plan(NOW_MS, SEED);
    assert_eq!(users, plan(NOW_MS, SEED));
    assert_ne!(users, plan(NOW_MS, SEED + 1));
    assert_eq!(users.len() as u64, USERS);
    assert_eq!(users[0].user_id, FIRST_USER_ID);
    for case in Case::ALL {
        let of_case: Vec<_> = users.iter().filter(|user| user.case == Some(case)).collect();
        assert_eq!(of_case.len(), 5, "{case:?}");
        for addresses in 0..3 {
            let has = of_case.iter().any(|user| user.chains.len() == addresses);
            assert!(has, "{case:?} with {addresses} addresses");
        }
    }
    assert!(users.windows(2).all(|pair| pair[0].account_sequence < pair[1].account_sequence));
}

#[tokio::test]
async fn wrong_urls_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("sqlite://{}/no/world.db", folder.path().display());
    for (url, wanted) in [
        ("mysql://root:secret@host/db", "has the scheme \"mysql\"; use sqlite://"),
        ("world.db", "has the scheme \"\"; use sqlite://"),
        ("sqlite::memory:", "cannot live in memory"),
        (missing.as_str(), "check that its folder exists"),
    ] {
        let error = format!("{:#}", World::create(url).await.unwrap_err());
        assert!(error.contains(wanted), "{url}: {error}");
        assert!(!error.contains("secret"));
    }
}

#[tokio::test]
async fn open_does_not_create() {
    let database = Database::fresh(Kind::Sqlite).await;
    assert!(World::open(&database.url).await.is_err());
    World::create(&database.url).await.unwrap().close().await;
    World::open(&database.url).await.unwrap().close().await;
    let of_another_application = Database::fresh(Kind::Sqlite).await;
    execute(&of_another_application.url, "CREATE TABLE other (id INTEGER)").await;
    let error = format!("{:#}", World::open(&of_another_application.url).await.unwrap_err());
    assert!(error.contains("has not the tables of the demo"), "{error}");
}
