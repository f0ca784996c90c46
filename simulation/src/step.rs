//! Handling of each event, with the failures that may occur between a host and the database.

use anyhow::Result;
use domain::id::JobName;
use domain::run::ClaimedRun;
use domain::runner::{FoundItem, Page};
use jiff::SignedDuration;
use store::attempts::commit::Committed;
use store::items::{Lease, lease};

use crate::world::{Event, Process, World, stamp};

/// Maximum error of a host's clock after it read the database's clock.
const READING_ERROR: u64 = 200;
/// Interval at which a host polls for work.
const POLL: u64 = 5_000;
const PAGE: usize = 4;
const CRASHES_MAX: u32 = 3;

const RUNNING: &str = "SELECT COUNT(*) FROM claimed_item AS claimed
    JOIN item ON item.id = claimed.item_id AND item.epoch = claimed.epoch";

/// The fate of one database call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Answered,
    /// The call never reached the database.
    Refused,
    /// The call was carried out, but its answer was lost.
    Unheard,
    /// The call is carried out after the host stopped waiting for it.
    Late,
}

impl World {
    pub async fn step(&mut self, event: Event) -> Result<()> {
        let Some(event) = self.admit(event) else { return Ok(()) };
        match event {
            Event::Look(process) => self.look(process).await?,
            Event::Beat(process) => self.beat(process).await?,
            Event::Recover(process) => self.look_for_lost(process).await?,
            Event::Page(process, run, cursor) => self.page(process, run, cursor).await?,
            Event::PutBack(process, run) => self.put_back(process, run).await?,
            Event::AttemptEnd(process, number) => self.attempt_end(process, number).await?,
            Event::Commit(process, number, end) => self.commit(process, number, end).await?,
            Event::LateEnd(process, number, end) => self.late_end(process, number, end).await?,
            Event::LateRenewal(host, lease) => {
                self.odd_at = self.time;
                self.hosts[host].store.items().renew(lease).await?;
            }
            Event::Crash(host) => self.crash(host),
            Event::Stop(host) => self.stop(host).await?,
            Event::Start(host) => self.start(host).await?,
            Event::Pause(host) => self.pause(host),
            Event::CutOff(host) => self.cut_off(host),
            Event::ClockJumps => self.clock_jumps(),
            Event::Business => self.business(),
            Event::Person => self.person().await?,
        }
        Ok(())
    }

    async fn look_for_lost(&mut self, process: Process) -> Result<()> {
        self.after(5_000, Event::Recover(process));
        if self.wire(process.host) == Wire::Answered {
            self.recover(process.host, false).await?;
        }
        Ok(())
    }

    /// Drops events of ended processes, and delays those of stopped processes until they continue.
    fn admit(&mut self, event: Event) -> Option<Event> {
        let process = match &event {
            Event::Look(process)
            | Event::Beat(process)
            | Event::Recover(process)
            | Event::Page(process, ..)
            | Event::PutBack(process, ..)
            | Event::AttemptEnd(process, ..)
            | Event::Commit(process, ..) => *process,
            _ => return Some(event),
        };
        let host = &mut self.hosts[process.host];
        if !host.up || host.life != process.life {
            return None;
        }
        if self.time < host.paused_until {
            let left = (host.paused_until - self.time).unsigned_abs();
            let shift = self.dice.below(50);
            self.after(left + shift, event);
            return None;
        }
        // The host's clock advances by the elapsed real time.
        host.hands.advance(SignedDuration::from_millis(self.time - host.seen));
        host.seen = self.time;
        Some(event)
    }

    pub fn wire(&mut self, host: usize) -> Wire {
        if !self.in_trouble() {
            return Wire::Answered;
        }
        if self.time < self.hosts[host].cut_off_until {
            return if self.dice.percent(20) { Wire::Unheard } else { Wire::Refused };
        }
        match self.dice.below(100) {
            0..=3 => Wire::Unheard,
            4 | 5 => Wire::Refused,
            6..=9 => Wire::Late,
            _ => Wire::Answered,
        }
    }

    fn lease(&self, host: usize) -> Lease {
        let host = &self.hosts[host];
        lease(host.id, host.incarnation(), host.hands.now(), self.config.lease_ttl)
    }

    /// Runs schedules, discoveries and claims.
    async fn look(&mut self, process: Process) -> Result<()> {
        self.after(POLL, Event::Look(process));
        let host = process.host;
        self.tick(host).await?;
        if !self.hosts[host].discovering {
            let wire = self.wire(host);
            if wire != Wire::Refused {
                let lease = self.lease(host);
                let claimed = self.hosts[host].store.runs().claim(&self.job.name, lease).await?;
                if let Some(run) = claimed {
                    let number = self.model.run_claimed(run.id, run.epoch);
                    if wire == Wire::Answered {
                        self.note(|| format!("host {host} discovers run {number}, epoch {}", run.epoch));
                        self.hosts[host].discovering = true;
                        let wait = self.dice.below(4_000);
                        self.after(wait, Event::Page(process, run, None));
                    } else {
                        self.hosts[host].store.items().let_go(run.attempt_id);
                    }
                }
            }
        }
        self.claim(process).await
    }

    async fn tick(&mut self, host: usize) -> Result<()> {
        let (store, now) = (self.hosts[host].store.clone(), self.hosts[host].hands.now());
        if self.wire(host) == Wire::Refused {
            return Ok(());
        }
        let after = store.jobs().ticked_at(&self.job.name).await?;
        let Some(due) = self.job.schedule.due(after, now) else { return Ok(()) };
        let other = self.dice.below(self.hosts.len() as u64) as usize;
        let ticked = store.jobs().tick(&self.job, &due, now, now).await?;
        self.note(|| format!("host {host} ticks: {:?}", ticked.map(|ticked| ticked.fate.as_str())));
        if self.dice.percent(30) {
            // Another host decided at the same time.
            self.hosts[other].store.jobs().tick(&self.job, &due, now, now).await?;
        }
        Ok(())
    }

    async fn claim(&mut self, process: Process) -> Result<()> {
        let host = process.host;
        let running = self.hosts[host].running.len() as u32;
        let wire = self.wire(host);
        let room = self.job.flow.concurrency.saturating_sub(running);
        let due = self.hosts[host].store.items().next_due(&self.job.name).await?;
        if wire == Wire::Refused || room == 0 || due.is_none_or(|due| due > self.hosts[host].hands.now()) {
            return Ok(());
        }
        let claimed = self.hosts[host].store.items().claim(&self.job, self.lease(host), room).await?;
        if let Some(total) = self.job.flow.concurrency_total.filter(|_| !claimed.is_empty()) {
            let running = crate::checks::number(self.store(), RUNNING).await?;
            if running > i64::from(total) {
                self.model.violated(format!("{running} attempts hold leases, {total} may"));
            }
        }
        for item in claimed {
            self.model.claimed(&item);
            if wire != Wire::Answered {
                self.hosts[host].store.items().let_go(item.attempt_id);
                self.model.let_go.insert(item.attempt_id.to_string(), i64::MAX);
                continue;
            }
            self.note(|| format!("host {host} begins {} epoch {}", item.key, item.epoch));
            let takes = match self.dice.below(20) {
                0 | 1 => 8_000 + self.dice.below(25_000),
                _ => 20 + self.dice.below(3_000),
            };
            let number = self.dice.below(u64::MAX);
            self.hosts[host].running.insert(number, item);
            self.after(takes, Event::AttemptEnd(process, number));
        }
        Ok(())
    }

    async fn beat(&mut self, process: Process) -> Result<()> {
        let number = process.host;
        let lost = self.hosts[number].lost;
        self.after(if lost { 1_000 } else { 5_000 }, Event::Beat(process));
        self.give_up_if_late(number);
        let wire = self.wire(number);
        if wire == Wire::Answered || wire == Wire::Late {
            self.set_clock(number);
        }
        let lease = self.lease(number);
        if wire == Wire::Late {
            let late = 500 + self.dice.below(12_000);
            self.after(late, Event::LateRenewal(number, lease));
        }
        if wire == Wire::Answered || wire == Wire::Unheard {
            let host = &self.hosts[number];
            host.store.items().renew(lease).await?;
            self.check_let_go().await?;
        }
        if wire != Wire::Answered {
            self.hosts[number].lost = true;
            self.give_up_if_late(number);
            return Ok(());
        }
        let host = &mut self.hosts[number];
        host.trust.renewed(lease.now);
        host.renewed_at = self.time;
        if std::mem::replace(&mut host.lost, false) {
            self.recover(number, false).await?;
        }
        Ok(())
    }

    /// Mirrors the heartbeat of the engine.
    fn give_up_if_late(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        if !host.trust.has_ended() || host.running.is_empty() {
            return;
        }
        host.store.items().let_lapse(host.id, |_| true);
        let lapsed = host.running.values().map(|item| (item.attempt_id.to_string(), i64::MAX));
        self.model.let_go.extend(lapsed);
        host.running.clear();
        self.note(|| format!("host {number} gives up what it held"));
    }

    /// Reads the database's clock with an error. Sets the host's clock only if it differs by more than the
    /// slack.
    fn set_clock(&mut self, number: usize) {
        let error = self.dice.below(READING_ERROR) as i64 - READING_ERROR as i64 / 2;
        let read = stamp(self.time + self.ahead + error);
        let host = &mut self.hosts[number];
        let by = read.duration_since(host.hands.now());
        if by.abs() > domain::clock::SLACK {
            host.hands.advance(by);
            host.trust.shift(by);
        }
    }

    /// Recovers lost items: expired ones, and with `own` also those of this host's process before the
    /// restart.
    pub async fn recover(&mut self, number: usize, own: bool) -> Result<()> {
        let host = &self.hosts[number];
        let (former, now) = (own.then_some(host.id), host.hands.now());
        let holders: Vec<(String, usize)> = self.holders();
        loop {
            let items = self.hosts[number].store.items();
            let recovered = items.recover(former, |_: &JobName| CRASHES_MAX, now).await?;
            if recovered.is_empty() {
                return Ok(());
            }
            for item in recovered {
                self.note(|| format!("host {number} puts back {}", item.key));
                self.model.due_is_open(&item.key);
                for (_, holder) in holders.iter().filter(|(key, _)| *key == item.key) {
                    self.was_it_lost(*holder, &item.key);
                }
            }
        }
    }

    fn holders(&self) -> Vec<(String, usize)> {
        let keys = |(number, host): (usize, &crate::world::Host)| {
            host.running.values().map(|item| (item.key.clone(), number)).collect::<Vec<_>>()
        };
        self.hosts.iter().enumerate().flat_map(keys).collect()
    }

    /// Checks that no item is lost by a running host that renewed its leases recently.
    fn was_it_lost(&mut self, holder: usize, key: &str) {
        let host = &self.hosts[holder];
        let lately = self.time - 13_000;
        let well = host.up
            && host.paused_until < lately
            && host.cut_off_until < lately
            && self.odd_at < self.time - 60_000;
        if well && host.renewed_at > lately {
            self.model.violated(format!("{key} was taken from host {holder}, which held it by right"));
        }
    }

    async fn page(&mut self, process: Process, run: ClaimedRun, cursor: Option<String>) -> Result<()> {
        let after = cursor.clone().unwrap_or_default();
        let keys: Vec<String> =
            self.model.open.iter().filter(|key| **key > after).take(PAGE).cloned().collect();
        let next = if keys.len() == PAGE { keys.last().cloned() } else { None };
        self.model.offered.extend(keys.iter().cloned());
        let items = keys.iter().map(|key| FoundItem { key: key.clone(), payload: "{}".to_owned() }).collect();
        let page = Page { items, next: next.clone() };
        let wire = self.wire(process.host);
        let (store, now) = (self.hosts[process.host].store.clone(), self.hosts[process.host].hands.now());
        if wire == Wire::Refused {
            self.after(500, Event::PutBack(process, run));
            return Ok(());
        }
        let (committed, _) = store.runs().put_page(&run, &self.job, &page, None, now).await?;
        if committed == Committed::Applied {
            self.note(|| format!("a page of epoch {}: {}", run.epoch, keys.join(" ")));
            self.model.page_accepted(run.id, run.epoch);
            self.model.acknowledged.extend(keys);
            if next.is_none() && self.job.resolve_when_absent {
                self.ended_elsewhere().await?;
            }
        }
        match (wire, committed, next) {
            (Wire::Answered, Committed::Applied, Some(next)) => {
                let wait = self.dice.below(3_000);
                self.after(wait, Event::Page(process, run, Some(next)));
            }
            (Wire::Answered, ..) => self.hosts[process.host].discovering = false,
            _ => self.after(500, Event::PutBack(process, run)),
        }
        Ok(())
    }

    async fn put_back(&mut self, process: Process, run: ClaimedRun) -> Result<()> {
        if self.wire(process.host) != Wire::Answered {
            self.after(500, Event::PutBack(process, run));
            return Ok(());
        }
        self.hosts[process.host].store.runs().release(&run).await?;
        self.hosts[process.host].discovering = false;
        Ok(())
    }
}
