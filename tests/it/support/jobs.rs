//! The demo's jobs, from the demo's own configuration file.

use std::net::SocketAddr;
use std::sync::Arc;

use domain::job::JobSpec;
use server::config::{Config, Environment};

use super::host::start_of_time;

/// The demo's job of this name.
pub fn demo_job(name: &str) -> JobSpec {
    of(demo::CONFIG, name)
}

/// The same, with the demo's services at this address.
pub fn demo_job_with(name: &str, services: SocketAddr) -> JobSpec {
    of(&demo::config_with(services), name)
}

fn of(config: &str, name: &str) -> JobSpec {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidemill.toml");
    std::fs::write(&file, config).unwrap();
    let config = Config::load(&file, &Environment::default(), start_of_time()).unwrap();
    let found = config.jobs.into_iter().find(|job| job.name.as_str() == name);
    Arc::unwrap_or_clone(found.unwrap_or_else(|| panic!("the demo has no job {name}")))
}
