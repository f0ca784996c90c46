//! Writes events to a table of a datasource: one row each.

use std::sync::Arc;

use store::Store;
use store::events::delivery::DueEvent;

pub struct Table {
    store: Arc<Store>,
    datasource: String,
    table: String,
}

impl Table {
    pub fn new(store: Arc<Store>, datasource: &str, table: &str) -> Table {
        Table { store, datasource: datasource.to_owned(), table: table.to_owned() }
    }

    pub async fn send(&self, due: &DueEvent) -> Result<(), String> {
        self.store.outbox().insert_into_table(&self.datasource, &self.table, &due.event).await
    }
}
