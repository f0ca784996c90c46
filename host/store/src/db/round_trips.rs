//! Counts what this process asks of its databases. The number for each item shows the cost of the engine
//! independently of the machine's speed.

use metrics::counter;

/// One statement, BEGIN, COMMIT or ping. On Postgres each is a message and its answer.
pub fn count() {
    counter!("tidemill_database_round_trips_total").increment(1);
}
