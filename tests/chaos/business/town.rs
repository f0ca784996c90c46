//! The business with its services, and the two hosts that do its jobs, on a fast clock.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use demo::services::NAMES;
use demo::{Mood, Mpc, MpcConfig, Services, Time, World};
use domain::clock::Clock;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::sleep;

use crate::ask::ask;
use crate::support::database::{Databases, Kind};
use crate::support::plugins;
use crate::support::process::{Process, free_port};
use crate::wire::Wire;

const HOSTS: [&str; 2] = ["one", "two"];
const WITNESS: &str = include_str!("witness.sql");
const SQLITE: &str = "sqlite://business.db";
const STARTS_MAX: u32 = 20;
const REST: Duration = Duration::from_secs(1);

pub struct Town {
    pub databases: Databases,
    pub services: Services,
    pub places: Vec<HostLocation>,
    pub clock: Clock,
    /// Simulated seconds per real second.
    pub speed: f64,
    /// The clock's time at the start.
    pub began: Timestamp,
}

/// One host's configuration and address. Its processes are started and killed.
pub struct HostLocation {
    pub name: &'static str,
    pub port: u16,
    /// The line to both databases.
    pub wire: Wire,
    config: PathBuf,
    arguments: Vec<String>,
}

impl Town {
    /// For a trial of this length on its clock: midnight is in the middle, so that the daily jobs run.
    pub async fn new(lasts: SignedDuration, speed: f64) -> Town {
        let databases = Databases::new(Kind::Postgres).await;
        let (clock, from) = clock(lasts, speed);
        let began = clock.now();
        let world = World::create(&databases.business_url).await.unwrap();
        world.seed(began.as_millisecond(), 1).await.unwrap();
        databases.business(WITNESS).await;
        let shown = clock.clone();
        let time = Time {
            now_ms: Arc::new(move || shown.now().as_millisecond()),
            real_ms_per_simulated_ms: 1.0 / speed,
        };
        let services = Services::start(Some(Mpc::new(world, MpcConfig::default(), time))).await.unwrap();
        for job in demo::JOBS {
            plugins::install(&databases.dir.path().join("plugins"), job, job);
        }
        let jobs = demo::config_with(services.address);
        let arguments = ["--clock-speed", &speed.to_string(), "--clock-from", &from.to_string()];
        let mut places = Vec::new();
        for name in HOSTS {
            places.push(HostLocation::new(name, &databases, &jobs, &arguments).await);
        }
        Town { databases, services, places, clock, speed, began }
    }

    pub fn plugins(&self) -> PathBuf {
        self.databases.dir.path().join("plugins")
    }

    pub fn set_mood(&self, service: &str, mood: Mood) {
        self.services.all.door(service).unwrap().set(mood);
    }

    /// Number of requests that met a mood at a service.
    pub fn met(&self, service: &str, mood: Mood) -> usize {
        self.services.all.door(service).unwrap().met().get(&mood).copied().unwrap_or_default()
    }

    pub fn met_anywhere(&self, mood: Mood) -> usize {
        NAMES.iter().map(|service| self.met(service, mood)).sum()
    }

    /// Posts to one host after the other, until one answers that it is done or was done before.
    pub async fn ask_anyone(&self, path: &str, body: Value) {
        for place in self.places.iter().cycle() {
            match ask(place.port, "POST", path, Some(body.clone())).await {
                Ok((200..=299 | 409, _)) => return,
                Ok((status @ 400..=499, text)) => panic!("{path}: {status} {text}"),
                // tidy: sleep because a host that is away gives no signal when it is back
                _ => sleep(REST / 5).await,
            }
        }
    }
}

/// Keeps the hosts' logs when their folders are deleted.
impl Drop for Town {
    fn drop(&mut self) {
        let Some(folder) = std::env::var_os("CHAOS_LOGS").map(PathBuf::from) else { return };
        std::fs::create_dir_all(&folder).unwrap();
        for place in &self.places {
            let name = format!("business-{}.log", place.name);
            let _ = std::fs::copy(place.config.with_extension("log"), folder.join(name));
        }
    }
}

impl HostLocation {
    async fn new(name: &'static str, databases: &Databases, jobs: &str, arguments: &[&str]) -> HostLocation {
        let (store, business) = (&databases.store_url, &databases.business_url);
        let (port, wire) = (free_port(), Wire::lay(store, business).await);
        assert!(jobs.contains(SQLITE), "the demo's business is not at {SQLITE}");
        let jobs = jobs.replace(SQLITE, &wire.url(business));
        let text = format!(
            "server.listen = \"127.0.0.1:{port}\"\nhost.data_dir = \"data-{name}\"\nhost.name = \"{name}\"\n\
             store.url = \"{}\"\nplugins.dir = \"plugins\"\n{jobs}",
            wire.url(store)
        );
        let config = databases.dir.path().join(format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        HostLocation {
            name,
            port,
            wire,
            config,
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        }
    }

    /// Acts as a supervisor: restarts a host that ended because its database was unavailable.
    pub async fn start(&self) -> Process {
        for _ in 0..STARTS_MAX {
            let address = ([127, 0, 0, 1], self.port).into();
            let mut process = Process::spawn_with(&self.config, address, &self.arguments);
            match process.ready_or_ended().await {
                Ok(()) => return process,
                Err(status) => eprintln!("{} ended with {status} at its start", self.name),
            }
            // tidy: sleep because a supervisor waits before it tries again
            sleep(REST).await;
        }
        panic!("{} does not start; its log says why", self.name);
    }
}

/// A fast clock that starts half of the trial before a midnight, and the instant when it showed real time.
fn clock(lasts: SignedDuration, speed: f64) -> (Clock, Timestamp) {
    let now = Timestamp::now();
    let midnight = now.to_zoned(TimeZone::UTC).start_of_day().unwrap().timestamp();
    let day = SignedDuration::from_hours(24);
    let starts = std::iter::successors(Some(midnight - lasts / 2), |start| Some(*start + day));
    let start = starts.into_iter().find(|start| *start > now).unwrap();
    // The clock's lead grew at (speed - 1) seconds a second.
    let from = now - start.duration_since(now).mul_f64(1.0 / (speed - 1.0));
    (Clock::scaled(speed, start), from)
}
