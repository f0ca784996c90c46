//! Conformance tests: every case on both databases, in the order in which an item passes through the store.

mod support;

mod contention;
mod opening;
mod poolers;
mod private;
mod schema;
mod servers;
mod sqlite_file;
mod store_id;
mod work_copy;

mod ticks;
mod transitions;

mod runs;

mod reconcile;

mod bulk;
mod history;
mod hostile;
mod hosts;
mod items;
mod keys;
mod locks;
mod presence;

mod recovery;
mod replay;

mod clock;
mod decisions;

mod scope;

mod sql;
mod tasks;
mod text;

mod commit;

mod full;

mod effect_sets;
mod effects;
mod features;
mod feed;

mod deliveries;
mod outbox;
mod placeholders;
mod plans;
mod plugins;
mod releases;

mod answers;
mod audit;

mod concurrency;
mod conservation;
mod damaged;
