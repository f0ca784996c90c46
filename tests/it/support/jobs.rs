//! The demo's jobs, from the file that the demo itself runs.

use std::sync::Arc;

use domain::job::JobSpec;
use server::config::{Config, Environment};

use super::host::start_of_time;

/// The demo's job of this name.
pub fn demo_job(name: &str) -> JobSpec {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidemill.toml");
    std::fs::write(&file, demo::CONFIG).unwrap();
    let config = Config::load(&file, &Environment::default(), start_of_time()).unwrap();
    let found = config.jobs.into_iter().find(|job| job.name.as_str() == name);
    Arc::unwrap_or_clone(found.unwrap_or_else(|| panic!("the demo has no job {name}")))
}
