//! The world of one seed: a database, hosts, the business, and a queue of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Result;
use domain::clock::{Clock, Manual};
use domain::flow::Flow;
use domain::id::{HostId, Incarnation};
use domain::item::Claimed;
use domain::job::{Access, Grants, JobSpec};
use domain::lease::Trust;
use domain::limits::Limits;
use domain::retry::{RetryPolicy, WhenExhausted};
use domain::run::ClaimedRun;
use domain::schedule::Schedule;
use domain::schedule::tick::{Overlap, TickPolicy};
use engine::EngineConfig;
use jiff::{SignedDuration, Timestamp};
use store::attempts::commit::AttemptEnd;
use store::config::DatasourceConfig;
use store::hosts::{HostLocation, HostStart, Taking};
use store::items::Lease;
use store::{Store, StoreConfig};
use tempfile::TempDir;
use uuid::Uuid;

use crate::dice::Dice;
use crate::model::Model;

pub const JOB: &str = "job";
pub const BUSINESS: &str = "business";
/// Duration of the phase with failures, and the maximum time to settle afterwards.
const TROUBLE: i64 = 45_000;
const SETTLE_MAX: i64 = 400_000;
/// Number of steps between two checks of the invariants.
const CHECKED_EVERY: u32 = 60;
const LOOKED_AT_EVERY: u32 = 11;
const BEGIN: i64 = 1_790_000_000_000;

/// A future event. Events of a process end with that process.
pub enum Event {
    Look(Process),
    Beat(Process),
    Recover(Process),
    Page(Process, ClaimedRun, Option<String>),
    PutBack(Process, ClaimedRun),
    AttemptEnd(Process, u64),
    Commit(Process, u64, Arc<AttemptEnd>),
    Crash(usize),
    Stop(usize),
    Start(usize),
    Pause(usize),
    CutOff(usize),
    /// A delayed request reaches the database.
    LateEnd(Process, u64, Arc<AttemptEnd>),
    LateRenewal(usize, Lease),
    ClockJumps,
    Business,
    Person,
}

/// One process of a host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Process {
    pub host: usize,
    pub life: u32,
}

pub struct Host {
    pub id: HostId,
    pub store: Arc<Store>,
    pub hands: Manual,
    pub trust: Arc<Trust>,
    pub life: u32,
    pub up: bool,
    /// When its clock was last advanced.
    pub seen: i64,
    pub paused_until: i64,
    pub cut_off_until: i64,
    pub renewed_at: i64,
    pub lost: bool,
    pub discovering: bool,
    pub running: BTreeMap<u64, Claimed>,
    /// The part of `running` whose outcome is being sent.
    pub ended: BTreeSet<u64>,
}

impl Host {
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(Uuid::from_u128(u128::from(self.life) + 1))
    }

    /// Registers this start. Each host has its own place, and restarts there.
    pub async fn register(&self, now: Timestamp) -> Result<()> {
        let place = HostLocation::Folder(self.id.to_string());
        let start =
            HostStart { id: self.id, incarnation: self.incarnation(), name: "simulated".to_owned(), place };
        let taking = self.store.hosts().take(&start, None, now).await?;
        anyhow::ensure!(taking == Taking::Taken, "another process runs as {}: {taking:?}", self.id);
        Ok(())
    }
}

pub struct World {
    pub dice: Dice,
    /// Elapsed real milliseconds, and the lead of the database's clock.
    pub time: i64,
    pub ahead: i64,
    /// Time of the last event that may end leases too early: the database's clock jumped, or a renewal was
    /// late.
    pub odd_at: i64,
    pub hosts: Vec<Host>,
    pub job: Arc<JobSpec>,
    pub config: EngineConfig,
    pub model: Model,
    pub trace: Option<Vec<String>>,
    queue: BTreeMap<(i64, u64), Event>,
    made: u64,
    _folder: TempDir,
}

impl World {
    pub async fn new(seed: u64, trace: bool) -> Result<World> {
        let mut dice = Dice::new(seed);
        // In memory where such a folder exists: the disk is not part of the simulation.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())?;
        let file = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
        let business = DatasourceConfig { url: format!("{}?mode=rwc", file("business.db")), password: None };
        let store = StoreConfig {
            url: file("tidemill.db"),
            password: None,
            notify: true,
            datasources: BTreeMap::from([(BUSINESS.to_owned(), business)]),
        };
        let config = EngineConfig::new("simulated");
        let mut hosts = Vec::new();
        for number in 0..2 + dice.below(3) {
            let Clock::Manual(hands) = Clock::manual(stamp(0)) else { anyhow::bail!("a clock for hands") };
            let lasts = config.lease_ttl - config.lease_margin;
            hosts.push(Host {
                id: HostId(Uuid::from_u128(u128::from(number) + 1)),
                store: Arc::new(Store::open(&store).await?),
                trust: Arc::new(Trust::new(Clock::Manual(hands.clone()), lasts)),
                hands,
                life: 0,
                up: true,
                seen: 0,
                paused_until: 0,
                cut_off_until: 0,
                renewed_at: 0,
                lost: false,
                discovering: false,
                running: BTreeMap::new(),
                ended: BTreeSet::new(),
            });
        }
        hosts[0]
            .store
            .execute_business(BUSINESS, "CREATE TABLE witness (item_key TEXT, epoch BIGINT)")
            .await?;
        let job = Arc::new(job(&mut dice));
        for host in &hosts {
            host.register(stamp(0)).await?;
        }
        hosts[0].store.jobs().put(&job, stamp(0)).await?;
        let mut world = World {
            dice,
            time: 0,
            ahead: 0,
            odd_at: -1_000_000,
            hosts,
            job,
            config,
            model: Model::default(),
            trace: trace.then(Vec::new),
            queue: BTreeMap::new(),
            made: 0,
            _folder: folder,
        };
        world.plan();
        Ok(world)
    }

    /// Plans the events of this seed: the hosts' processes and their failures.
    fn plan(&mut self) {
        for host in 0..self.hosts.len() {
            self.begin(host);
        }
        for _ in 0..4 {
            let at = self.dice.below(35_000);
            self.after(at, Event::Business);
        }
        for _ in 0..4 + self.dice.below(10) {
            let at = 2_000 + self.dice.below(41_000);
            let host = self.dice.below(self.hosts.len() as u64) as usize;
            let event = match self.dice.below(10) {
                0 | 1 => Event::Crash(host),
                2 => Event::Stop(host),
                3..=5 => Event::Pause(host),
                6 | 7 => Event::CutOff(host),
                8 => Event::Person,
                _ => Event::ClockJumps,
            };
            self.after(at, event);
        }
    }

    /// Starts the loops of a process.
    pub fn begin(&mut self, host: usize) {
        let process = Process { host, life: self.hosts[host].life };
        let shift = self.dice.below(1_000);
        self.after(shift, Event::Look(process));
        self.after(shift + 5_000, Event::Beat(process));
        self.after(shift + 4_000, Event::Recover(process));
    }

    pub fn after(&mut self, millis: u64, event: Event) {
        self.made += 1;
        self.queue.insert((self.time + millis as i64, self.made), event);
    }

    /// Runs until everything has settled. Violations are in the model.
    pub async fn run(&mut self) -> Result<()> {
        let mut steps = 0_u32;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            self.time = self.time.max(at);
            if self.time > TROUBLE + SETTLE_MAX {
                let left = crate::checks::texts(self.store(), LEFT).await?;
                if !left.is_empty() {
                    self.model.violated(format!("work that never ends: {}", left.join(", ")));
                }
                break;
            }
            self.step(event).await?;
            steps += 1;
            if steps.is_multiple_of(CHECKED_EVERY) {
                self.check().await?;
            }
            if !self.in_trouble() && steps.is_multiple_of(LOOKED_AT_EVERY) && self.settled().await? {
                break;
            }
            if !self.model.violations.is_empty() {
                break;
            }
        }
        if self.model.violations.is_empty() {
            self.check().await?;
            self.check_witnesses().await?;
        }
        for host in &self.hosts {
            host.store.close().await;
        }
        Ok(())
    }

    pub fn in_trouble(&self) -> bool {
        self.time < TROUBLE
    }

    /// All hosts share one database, so any of their stores will do.
    pub fn store(&self) -> &Store {
        &self.hosts[0].store
    }

    /// The time of the database's clock.
    pub fn now(&self) -> Timestamp {
        stamp(self.time + self.ahead)
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>8.3} {}", self.time as f64 / 1_000.0, what()));
        }
    }

    async fn settled(&self) -> Result<bool> {
        Ok(crate::checks::texts(self.store(), LEFT).await?.is_empty())
    }

    async fn check(&mut self) -> Result<()> {
        for what in crate::checks::all(self.store()).await? {
            self.model.violated(what);
        }
        let known = crate::checks::texts(self.store(), "SELECT item_key FROM item").await?;
        for key in self.model.acknowledged.clone() {
            if !known.contains(&key) {
                self.model.violated(format!("{key} was acknowledged and is lost"));
            }
        }
        for key in known.iter().filter(|key| !self.model.offered.contains(*key)).cloned().collect::<Vec<_>>()
        {
            self.model.violated(format!("{key} came from nowhere"));
        }
        Ok(())
    }

    /// Each business commit belongs to a resolved attempt, except those whose host died or lost the item just
    /// after it.
    async fn check_witnesses(&mut self) -> Result<()> {
        let rows = self.store().query_business(BUSINESS, "SELECT COUNT(*) FROM witness").await?;
        let rows = crate::checks::first_number(&rows);
        let resolved = "SELECT COUNT(*) FROM attempt WHERE verdict = 'resolved'";
        let resolved = crate::checks::number(self.store(), resolved).await?;
        let alone = self.model.alone.len() as i64;
        if rows != resolved + alone {
            self.model
                .violated(format!("{rows} business effects, {resolved} resolved attempts, {alone} alone"));
        }
        for (key, epoch) in self.model.alone.clone() {
            if crate::checks::number(self.store(), &heard_of(&key, epoch)).await? == 0 {
                self.model.violated(format!("{key} was done under epoch {epoch}, and nobody heard of it"));
            }
        }
        Ok(())
    }
}

/// Items and runs that have not ended.
const LEFT: &str =
    "SELECT item_key || ' is ' || state FROM item WHERE state NOT IN ('resolved', 'manual_required', 'abandoned')
    UNION ALL SELECT 'run ' || id || ' is ' || state FROM run WHERE state IN ('discovering', 'running')";

/// Counts what followed a business commit whose outcome was not written: an attempt that ended, or a person. After
/// too many crashes, the item waits for one.
fn heard_of(key: &str, epoch: i64) -> String {
    format!(
        "SELECT (SELECT COUNT(*) FROM item WHERE item_key = '{key}' AND (error_code = 'poison' OR EXISTS (SELECT 1
            FROM attempt WHERE attempt.item_id = item.id AND attempt.epoch > {epoch}
                AND verdict NOT IN ('lost', 'interrupted', 'host-failed'))))
            + (SELECT COUNT(*) FROM audit WHERE actor = 'ada' AND subject = '{key}')"
    )
}

pub fn stamp(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(BEGIN + millis).unwrap_or(Timestamp::MAX)
}

fn job(dice: &mut Dice) -> JobSpec {
    let retry = RetryPolicy {
        base: SignedDuration::from_secs(2),
        cap: SignedDuration::from_secs(4),
        crashes_max: 3,
        max_attempts: None,
        ..RetryPolicy::DEFAULT
    };
    let retry = match dice.percent(30) {
        true => RetryPolicy { max_attempts: Some(3), when_exhausted: WhenExhausted::NextRun, ..retry },
        false => retry,
    };
    let resolve_when_absent = dice.percent(50);
    let total = dice.percent(50).then_some(2);
    let overlap = if dice.percent(50) { Overlap::Allow } else { Overlap::Skip };
    #[allow(clippy::unwrap_used, reason = "names and schedules of ours")]
    JobSpec {
        name: JOB.parse().unwrap(),
        plugin: "plugin".parse().unwrap(),
        schedule: Schedule::every(SignedDuration::from_secs(20)).unwrap(),
        ticks: TickPolicy { overlap, ..TickPolicy::default() },
        config: BTreeMap::new(),
        grants: Grants {
            topics: [JOB.to_owned()].into(),
            datasources: [(BUSINESS.to_owned(), Access::ReadWrite)].into(),
            ..Grants::default()
        },
        limits: Limits::DEFAULT,
        retry,
        flow: Flow { concurrency_total: total, ..Flow::default() },
        resolve_when_absent,
        failed_alert: Default::default(),
        on_store_loss: Default::default(),
        isolation: Default::default(),
    }
}
