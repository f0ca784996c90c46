//! W8 at its worst moment: the host dies when the status is committed and the event is not.

use demo::world::World;

use super::site::Site;
use crate::support::database::{Kind, RUNNING};
use crate::support::wait::until;

const JOB: &str = "
[jobs.wallet-keygen-retry]
plugin = \"wallet-keygen-retry\"
schedule = { every = \"1s\" }
[jobs.wallet-keygen-retry.grants]
sql = { business = \"read-write\" }
events = [\"MpcKeygenRequested\"]
[jobs.wallet-keygen-retry.retry]
base = \"1h\"
cap = \"1h\"
";

pub async fn w8_a_crash_between_the_two_commits_sends_one_session(kind: Kind) {
    let site = Site::new(kind, "wallet-keygen-retry", JOB).await;
    let databases = &site.databases;
    let world = World::create(&databases.business_url).await.unwrap();
    databases.business("INSERT INTO user_account (user_id, account_sequence) VALUES (1, 7001)").await;
    let number = async |sql: &str| databases.store_number(sql).await;

    // The attempt waits in its SQL, commits to the business database, and then waits for the host's commit.
    let business = databases.hold_business("keygen_status").await;
    let place = site.place("one");
    let host = place.start().await;
    let running = format!("SELECT COUNT(*) FROM {RUNNING}");
    until("the attempt has begun", async || number(&running).await == 1).await;
    let store = databases.hold_store("item").await;
    business.release().await;
    until("the status is committed", async || world.status(1).await.unwrap().is_some()).await;
    assert_eq!(number("SELECT COUNT(*) FROM event").await, 0, "the event waits for the item's own commit");
    host.kill9().await;
    store.release().await;
    let status = world.status(1).await.unwrap().unwrap();
    let session = status.session_id.unwrap();
    assert_eq!(status.status, "pending");

    let host = place.start().await;
    until("the attempt is repeated", async || number("SELECT COUNT(*) FROM event").await > 0).await;
    let ticks = number("SELECT COUNT(*) FROM tick").await;
    until("later runs look at it too", async || number("SELECT COUNT(*) FROM tick").await > ticks + 1).await;
    host.terminate().await;

    let events = databases.store_texts("SELECT payload FROM event").await;
    assert_eq!(events.len(), 1, "{events:?}");
    let event: serde_json::Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!(event["session_id"], session.as_str());
    assert_eq!(world.status(1).await.unwrap().unwrap().session_id.as_deref(), Some(session.as_str()));
    assert_eq!(databases.store_texts("SELECT state || ' ' || attempts FROM item").await, ["awaiting 1"]);
    let trail = "SELECT epoch || ' ' || number || ' ' || verdict FROM attempt ORDER BY epoch";
    assert_eq!(databases.store_texts(trail).await, ["1 1 lost", "2 1 awaiting"]);
    let audit = "SELECT subject || ' ' || substr(actor, 1, 5) FROM audit WHERE action = 'lost'";
    assert_eq!(databases.store_texts(audit).await, ["1 host:"]);
    world.close().await;
}
