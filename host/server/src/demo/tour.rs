//! The guided tour of the demo.

use std::net::SocketAddr;
use std::path::Path;

/// What to inspect, what to break, and what happens then.
pub fn tour(data: &Path, services: SocketAddr, server: &str) -> String {
    let (plugins, business) = (data.join("plugins"), data.join("business.db"));
    let (plugins, business, data) = (plugins.display(), business.display(), data.display());
    format!(
        "A tour, from another terminal (tidemill is {binary}):
  look   tidemill jobs {server}             eleven jobs, as {data}/tidemill.toml configures them; also: runs, audit, doctor
         tidemill alerts {server}           what is stuck; acknowledged and raised again, it is a new alert
         tidemill items --job finalize-retry --state awaiting {server}
                                            orders of dune-coffee, whose account is closed: tried again, later and later
  mend   sqlite3 {business} \"UPDATE payout_account SET state = 'open'\"
                                            their next try finalizes them
  add    tidemill batches add {data}/batch.json {server}
         tidemill batches show tour {server}   one is resolved; one waits for a person, as its operation is unknown
  edit   {data}/tidemill.toml, say the schedule of a job
                                            in effect within a second; a mistake changes nothing: tidemill audit {server}
  stop   curl -X PUT -d closes http://{services}/stock/mood
                                            customers keep buying; what cannot be replenished in three tries raises
                                            one alert a run: tidemill runs --job stock-replenish {server}
         curl -X PUT -d well http://{services}/stock/mood
                                            the next run fills everything; other moods: fails, refuses, rubbish, loses, hangs
  break  echo rubbish > {plugins}/ledger-outbox.wasm
                                            the page says rejected, and the previous version keeps running
  kill   kill -9 {pid}, then the same command with --data {data}
                                            interrupted items are put back, and nothing is done twice
",
        binary = std::env::current_exe().unwrap_or_default().display(),
        pid = std::process::id()
    )
}

/// A batch for the tour: one record that can be compensated for, and one that cannot.
pub const BATCH: &str = r#"{ "id": "tour", "job": "batch-compensation", "created_by": "tour", "items": [
    { "operation": "stock-return", "payload": { "campaign_id": 1, "units": 5 }, "failure_reason": "timed out at checkout" },
    { "operation": "refund", "payload": {}, "failure_reason": "nobody knows how" } ] }
"#;
