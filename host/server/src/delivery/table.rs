//! Events into a table of a datasource: one row each.

use store::Store;
use store::delivery::DueEvent;

pub async fn send(store: &Store, datasource: &str, table: &str, due: &DueEvent) -> Result<(), String> {
    store.event_into_table(datasource, table, &due.event).await
}
