//! The guest's own work in one attempt, counted in instructions. Unlike times, this number does not depend on the
//! machine.

use std::sync::Arc;

use domain::limits::Limits;
use domain::plugin::Describe;
use test_support::needs;
use wasmtime::component::Component;
use wasmtime::{Config, Engine, Store};

use super::{claimed, guest_path, job, outside};
use crate::guest::bindings::{self, PluginPre};
use crate::guest::convert;
use crate::guest::log::LogSource;
use crate::guest::state::{AttemptContext, GuestState};

/// Instantiation and one call of a component that does nothing: the toolkit's own code.
const INSTRUCTIONS_MAX: u64 = 3_000;

#[tokio::test]
async fn an_attempt_that_does_nothing_takes_few_instructions() {
    needs!(Plugins);
    let engine = Engine::new(Config::new().consume_fuel(true)).unwrap();
    let component = Component::from_file(&engine, guest_path("noop")).unwrap();
    let linker = bindings::linker(&engine).unwrap();
    let plugin = PluginPre::new(linker.instantiate_pre(&component).unwrap()).unwrap();

    let job = Arc::new(job("noop"));
    let granted = AttemptContext {
        job: job.clone(),
        describe: Arc::new(Describe::default()),
        scope: Arc::<super::FakeScope>::default(),
        fence: None,
    };
    let state = GuestState::new(Some(granted), &Limits::DEFAULT, &outside(), LogSource::default());
    let mut store = Store::new(&engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_fuel(u64::MAX).unwrap();
    let instance = plugin.instantiate_async(&mut store).await.unwrap();
    let item = convert::item(&job, claimed(&job, ""));
    instance.tidemill_job_job().call_process(&mut store, &item).await.unwrap().unwrap();
    let used = u64::MAX - store.get_fuel().unwrap();
    println!("instructions: {used}");
    assert!((1..=INSTRUCTIONS_MAX).contains(&used), "{used} instructions; {INSTRUCTIONS_MAX} are allowed");
}
