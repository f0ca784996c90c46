//! The hosts' processes: killed, stopped and restarted, one fault after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::fault::Fault;
use crate::site::{HostLocation, Site};
use crate::support::database::Kind;
use crate::support::process::Process;
use crate::support::random::Random;

/// A lease lasts 15 s, lost ones are checked every 5 s, plus reserve for a busy machine.
const TAKEN_OVER_AFTER: Duration = Duration::from_secs(22);
/// Others notice within 3 s that a killed host's session has ended, plus the same reserve.
const KILLED_TAKEN_OVER_AFTER: Duration = Duration::from_secs(8);
const COMMIT_COMES_WITHIN: Duration = Duration::from_secs(10);
/// Time for work between two faults, so that the next fault meets some.
const PAUSE: Duration = Duration::from_secs(3);

pub struct Hosts {
    site: Arc<Site>,
    /// None while it is down.
    processes: Vec<Option<Process>>,
    /// Outcomes that each place's process refused as stale, by its last report.
    refused: Vec<u64>,
    refused_before: u64,
    random: Random,
    pub fired: BTreeMap<Fault, u64>,
    pub gone: Vec<Gone>,
}

/// A host whose items were free for others to take over (or, if alone, for its next process).
pub struct Gone {
    pub host: String,
    /// Milliseconds since 1970.
    pub since: i64,
    /// Its process was killed; otherwise it was stopped or cut off.
    pub is_killed: bool,
}

impl Hosts {
    pub async fn start(site: Arc<Site>, random: Random) -> Hosts {
        let mut processes = Vec::new();
        for place in &site.places {
            processes.push(Some(place.start().await));
        }
        let refused = vec![0; processes.len()];
        let (fired, gone) = (BTreeMap::new(), Vec::new());
        Hosts { site, processes, refused, refused_before: 0, random, fired, gone }
    }

    /// Causes all kinds of faults in random order, repeatedly until the deadline, each kind at least once.
    pub async fn torment(&mut self, until: Instant) {
        let kind = self.site.databases.kind;
        let mut first = true;
        while first || Instant::now() < until {
            for fault in self.shuffled(kind) {
                if !first && Instant::now() >= until {
                    return;
                }
                self.go_on(PAUSE).await;
                self.bring(fault).await;
            }
            first = false;
        }
    }

    fn shuffled(&mut self, kind: Kind) -> Vec<Fault> {
        use Fault::{Freeze, Kill, KillAll, LateCommit, Stop, Terminate};
        let mut faults = match kind {
            Kind::Sqlite => vec![Kill, Kill, Kill, Kill, Stop, Terminate],
            Kind::Postgres => vec![Kill, Kill, KillAll, Stop, LateCommit, Freeze, Terminate],
        };
        for last in (1..faults.len()).rev() {
            faults.swap(last, self.random.below(last as u64 + 1) as usize);
        }
        faults
    }

    /// Each fault returns whether it took place.
    async fn bring(&mut self, fault: Fault) {
        let which = self.random.below(self.processes.len() as u64) as usize;
        eprintln!("{}: {} {}", Timestamp::now(), fault.name(), self.place(which).name);
        let fired = match fault {
            Fault::Kill => self.kill(which).await,
            Fault::KillAll => self.kill_all().await,
            Fault::Stop => self.stop(which).await,
            Fault::LateCommit => self.stop_at_commit(which).await,
            Fault::Freeze => self.freeze(which).await,
            _ => self.terminate(which).await,
        };
        *self.fired.entry(fault).or_default() += u64::from(fired);
    }

    /// If there are other hosts, this one stays down until they have taken its items over, two times in
    /// three.
    async fn kill(&mut self, which: usize) -> bool {
        self.note(which).await;
        self.take(which).kill9().await;
        let killed_at = now();
        let alone = self.alone();
        let away = if alone || self.random.below(3) == 0 { self.short() } else { KILLED_TAKEN_OVER_AFTER };
        if alone || away == KILLED_TAKEN_OVER_AFTER {
            self.gone.push(Gone { host: self.place(which).id(), since: killed_at, is_killed: true });
        }
        self.go_on(away).await;
        self.start_again(which).await;
        true
    }

    async fn kill_all(&mut self) -> bool {
        for which in 0..self.processes.len() {
            self.note(which).await;
        }
        for which in 0..self.processes.len() {
            self.take(which).kill9().await;
        }
        let away = self.short();
        self.go_on(away).await;
        for which in 0..self.processes.len() {
            self.start_again(which).await;
        }
        true
    }

    /// The host holds items and perhaps open transactions, and does not notice the time that has passed.
    async fn stop(&mut self, which: usize) -> bool {
        self.signal(which, "-STOP").await;
        if !self.alone() {
            self.gone.push(Gone { host: self.place(which).id(), since: now(), is_killed: false });
        }
        self.go_on(TAKEN_OVER_AFTER).await;
        self.signal(which, "-CONT").await;
        self.go_on(PAUSE).await;
        self.note(which).await;
        true
    }

    /// The host checked that it still holds the item and sent the COMMIT, but the COMMIT arrives late, as
    /// after a suspend in between or on a slow line.
    async fn stop_at_commit(&mut self, which: usize) -> bool {
        let Some(business) = self.place(which).wire.as_ref().map(|wire| wire.business.clone()) else {
            return false;
        };
        if !business.hold_commit(COMMIT_COMES_WITHIN).await {
            return false;
        }
        self.signal(which, "-STOP").await;
        self.go_on(TAKEN_OVER_AFTER).await;
        business.let_go();
        self.signal(which, "-CONT").await;
        self.go_on(PAUSE).await;
        self.note(which).await;
        true
    }

    /// Cut off from Postgres, the host must stop on its own, as others take over; its messages arrive later.
    async fn freeze(&mut self, which: usize) -> bool {
        let site = self.site.clone();
        let Some(wire) = &site.places[which].wire else { return false };
        wire.freeze(true);
        self.gone.push(Gone { host: self.place(which).id(), since: now(), is_killed: false });
        self.go_on(TAKEN_OVER_AFTER).await;
        wire.freeze(false);
        self.go_on(PAUSE).await;
        self.note(which).await;
        true
    }

    async fn terminate(&mut self, which: usize) -> bool {
        self.note(which).await;
        self.take(which).terminate().await;
        self.start_again(which).await;
        true
    }

    async fn start_again(&mut self, which: usize) {
        self.processes[which] = Some(self.place(which).start().await);
    }

    async fn signal(&self, which: usize, signal: &str) {
        let id = self.processes[which].as_ref().and_then(|process| process.child.id()).unwrap().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
    }

    fn alone(&self) -> bool {
        self.processes.len() == 1
    }

    fn short(&mut self) -> Duration {
        Duration::from_millis(self.random.below(2_000))
    }

    async fn go_on(&self, time: Duration) {
        // tidy: sleep because faults last for a time, and come at moments that no event announces
        sleep(time).await;
    }

    fn place(&self, which: usize) -> &HostLocation {
        &self.site.places[which]
    }

    /// A process's count of refused outcomes ends with the process, so it is added to `refused_before`.
    fn take(&mut self, which: usize) -> Process {
        self.refused_before += std::mem::take(&mut self.refused[which]);
        self.processes[which].take().unwrap()
    }

    async fn note(&mut self, which: usize) {
        if let Some(refused) = self.place(which).stale_refused().await {
            self.refused[which] = refused;
        }
    }

    /// Outcomes that hosts refused because another host held their items.
    pub async fn stale_refused(&mut self) -> u64 {
        for which in 0..self.processes.len() {
            self.note(which).await;
        }
        self.refused_before + self.refused.iter().sum::<u64>()
    }

    /// Sends SIGTERM to all; each has to end with success.
    pub async fn end(&mut self) {
        for which in 0..self.processes.len() {
            self.take(which).terminate().await;
        }
    }
}

fn now() -> i64 {
    Timestamp::now().as_millisecond()
}
