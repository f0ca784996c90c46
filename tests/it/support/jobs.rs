//! The demo's jobs, from the demo's own configuration file.

use std::net::SocketAddr;
use std::sync::Arc;

use domain::job::JobSpec;
use server::config::{Config, Environment};

use super::database::{Databases, Kind};
use super::host::{Host, manual, start_of_time};
use super::plugins;

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

/// A host with these jobs of the demo, and the business world.
pub async fn host_of(kind: Kind, names: &[&str]) -> (Databases, Host) {
    let databases = Databases::new(kind).await;
    demo::World::create(&databases.business_url).await.unwrap();
    for name in names {
        plugins::install(&databases.dir.path().join("plugins"), name, name);
    }
    let jobs = names.iter().map(|name| demo_job(name)).collect();
    let host = Host::start("one", &databases, &manual(), jobs).await;
    (databases, host)
}
