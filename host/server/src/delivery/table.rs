//! Writes events to a table of a datasource: one row each, the rows of a wave by one statement.

use std::collections::BTreeSet;
use std::sync::Arc;

use store::Store;
use store::events::delivery::DueEvent;
use store::events::inbox::InsertError;
use store::events::outbox::EventView;
use tokio::time::Instant;

pub struct Table {
    store: Arc<Store>,
    datasource: String,
    table: String,
}

impl Table {
    pub fn new(store: Arc<Store>, datasource: &str, table: &str) -> Table {
        Table { store, datasource: datasource.to_owned(), table: table.to_owned() }
    }

    /// Inserts all events or none. If the database refuses a row, inserts them one after the other.
    pub async fn send(&self, wave: &[&DueEvent], until: Instant) -> Vec<Result<(), String>> {
        let events: Vec<&EventView> = wave.iter().map(|due| &due.event).collect();
        match self.insert(&events).await {
            Ok(()) => vec![Ok(()); events.len()],
            Err(error) if error.is_refused && events.len() > 1 => {
                self.one_by_one(&events, until, &error.text).await
            }
            Err(error) => vec![Err(error.text); events.len()],
        }
    }

    /// Events after one that is refused are not inserted if they have its key. `refused` is the error of the events
    /// for which the time does not suffice.
    async fn one_by_one(
        &self,
        events: &[&EventView],
        until: Instant,
        refused: &str,
    ) -> Vec<Result<(), String>> {
        let mut stopped = BTreeSet::new();
        let mut results = Vec::with_capacity(events.len());
        for event in events {
            let key = (&event.topic, &event.key);
            let result = match stopped.contains(&key) || Instant::now() >= until {
                true => Err(refused.to_owned()),
                false => self.insert(&[event]).await.map_err(|error| error.text),
            };
            if result.is_err() {
                stopped.insert(key);
            }
            results.push(result);
        }
        results
    }

    async fn insert(&self, events: &[&EventView]) -> Result<(), InsertError> {
        self.store.outbox().insert_into_table(&self.datasource, &self.table, events).await
    }
}
