//! Events in a table of a business database.

use std::time::Duration;

use domain::scope::{ScopeError, Value};
use serde_json::json;

use crate::attempts::datasource::explain;
use crate::events::Outbox;
use crate::events::outbox::EventView;

/// Maximum time of one insert.
const INSERT_TIME_MAX: Duration = Duration::from_secs(5);

/// Why events could not be inserted.
#[derive(Debug, Clone)]
pub struct InsertError {
    pub text: String,
    /// Whether the database refused a row. Then the others may be inserted without it.
    pub is_refused: bool,
}

impl Outbox<'_> {
    /// Inserts events into a table of a datasource, all or none, each at most once: its id is the table's key.
    pub async fn insert_into_table(
        self,
        datasource: &str,
        table: &str,
        events: &[&EventView],
    ) -> Result<(), InsertError> {
        let other = |text: String| InsertError { text, is_refused: false };
        let db = self.store.datasources.get(datasource).map_err(|e| other(e.to_string()))?;
        let sql = insert_into(table, db.is_postgres());
        let args = [Value::Text(rows(events).to_string())];
        let insert = async {
            let mut tx = db.begin_declared(true, INSERT_TIME_MAX).await.map_err(insert_error)?;
            tx.execute_declared(&sql, &args).await.map_err(insert_error)?;
            tx.commit().await.map_err(|e| other(e.to_string()))
        };
        let late = |_| Err(other(format!("no answer within {INSERT_TIME_MAX:?}")));
        tokio::time::timeout(INSERT_TIME_MAX, insert).await.unwrap_or_else(late)
    }
}

fn insert_error(error: sqlx::Error) -> InsertError {
    let error = explain(error);
    InsertError { is_refused: matches!(error, ScopeError::Database(_)), text: error.to_string() }
}

/// One text for any number of events, so that connections prepare it once. The rows are one JSON text.
fn insert_into(table: &str, is_postgres: bool) -> String {
    const COLUMNS: &str = "id, topic, event_key, payload, job, created_at_ms";
    let rows = match is_postgres {
        true => {
            "json_to_recordset(CAST($1 AS json)) AS added (id text, topic text, event_key text, payload text, job text, \
             created_at_ms bigint)"
        }
        false => {
            "(SELECT value ->> 'id' AS id, value ->> 'topic' AS topic, value ->> 'event_key' AS event_key, \
             value ->> 'payload' AS payload, value ->> 'job' AS job, value ->> 'created_at_ms' AS created_at_ms \
             FROM json_each($1)) AS added"
        }
    };
    format!(
        "INSERT INTO {table} ({COLUMNS}) SELECT {COLUMNS} FROM {rows} WHERE true ON CONFLICT (id) DO NOTHING"
    )
}

fn rows(events: &[&EventView]) -> serde_json::Value {
    let row = |event: &&EventView| {
        json!({
            "id": event.id.to_string(),
            "topic": event.topic,
            "event_key": event.key,
            "payload": event.payload,
            "job": event.job.as_str(),
            "created_at_ms": event.created_at.as_millisecond(),
        })
    };
    events.iter().map(row).collect()
}
