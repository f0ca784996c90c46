use std::marker::PhantomData;

use crate::bindings::exports::tidemill::job::job::Guest;
use crate::{Describe, Failure, Found, Item, Outcome, Page, PageRequest};

/// Business logic that the host runs. Schedules, locks, backoff and retries belong to the host.
///
/// A job without items writes `describe` and `run`. A job with items writes `describe`, `discover` and `process`
/// (or `run`, which `process` calls with the item).
pub trait Job {
    /// The plugin's description and its requests. No capability can be used here.
    fn describe() -> Describe;

    /// One page of the items that are due for an attempt. By default the job has one item with the key `run`.
    fn discover(_request: PageRequest) -> Result<Page, Failure> {
        Ok(Page::complete(vec![Found::key("run")]))
    }

    /// One attempt of one item. Its changes are kept if it returns `Ok`, and discarded otherwise.
    fn process(item: Item) -> Result<Outcome, Failure> {
        Self::run(&item)
    }

    /// The whole work of a job without items.
    fn run(item: &Item) -> Result<Outcome, Failure> {
        Err(Failure::permanent(
            "not-implemented",
            format!("item {:?} cannot be attempted: the plugin has neither `run` nor `process`", item.key),
        ))
    }
}

/// Exports a [`Job`] as the interface of this component. Use it once per plugin.
///
/// ```ignore
/// tidemill_sdk::export_job!(MyJob);
/// ```
#[macro_export]
macro_rules! export_job {
    ($job:ty) => {
        const _: () = {
            type ExportedJob = $crate::Exported<$job>;
    $crate::bindings::export_component!(ExportedJob with_types_in $crate::bindings);
        };
    };
}

/// Connects the generated export with the trait of this crate, so that authors never see the former.
#[doc(hidden)]
pub struct Exported<J>(PhantomData<J>);

impl<J: Job> Guest for Exported<J> {
    fn describe() -> String {
        J::describe().into_json()
    }

    fn discover(request: PageRequest) -> Result<Page, Failure> {
        J::discover(request)
    }

    fn process(item: Item) -> Result<Outcome, Failure> {
        J::process(item)
    }
}
