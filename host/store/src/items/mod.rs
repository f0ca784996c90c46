//! Items: claims, places, decisions of people, and views.

pub mod batches;
pub mod claims;
pub mod decide;
pub mod enqueue;
pub mod flow;
pub(crate) mod places;
pub mod recovery;
pub(crate) mod sql;
pub mod views;

pub use claims::{Lease, lease};
pub use decide::DecisionRequest;
pub use views::{AttemptView, ItemCount, ItemView, Shown};
pub(crate) use views::{error_of, in_batch, item_view};

use crate::store::Store;

/// All items: claims, leases, decisions and views.
#[derive(Clone, Copy)]
pub struct Items<'a> {
    pub(crate) store: &'a Store,
}
