//! Failures of hosts and clocks.

use std::sync::Arc;

use anyhow::Result;
use domain::failure::Failure;

use crate::world::{Event, World};

impl World {
    pub fn crash(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        if !host.up {
            return;
        }
        host.up = false;
        host.life += 1;
        host.running.clear();
        host.ended.clear();
        let away = 200 + self.dice.below(25_000);
        self.note(|| format!("host {number} is killed"));
        self.after(away, Event::Start(number));
    }

    /// Stops a host by a signal: its running attempts are put back.
    pub async fn stop(&mut self, number: usize) -> Result<()> {
        if !self.hosts[number].up || self.time < self.hosts[number].paused_until {
            return Ok(());
        }
        self.note(|| format!("host {number} is asked to stop"));
        let host = &mut self.hosts[number];
        let (running, ended) = (std::mem::take(&mut host.running), std::mem::take(&mut host.ended));
        // An ended attempt is committed or not, but never interrupted.
        for (_, item) in running.into_iter().filter(|(number, _)| !ended.contains(number)) {
            let end = self.end_of(number, item, Err(Failure::Interrupted), Default::default());
            self.write(number, &Arc::new(end)).await?;
        }
        let host = &mut self.hosts[number];
        host.up = false;
        host.life += 1;
        let away = 200 + self.dice.below(5_000);
        self.after(away, Event::Start(number));
        Ok(())
    }

    pub async fn start(&mut self, number: usize) -> Result<()> {
        let (now, time) = (self.now(), self.time);
        let host = &mut self.hosts[number];
        host.up = true;
        host.lost = false;
        host.discovering = false;
        host.paused_until = 0;
        host.hands.advance(now.duration_since(host.hands.now()));
        host.seen = time;
        host.renewed_at = time;
        host.trust.renewed(now);
        host.store.forget_claims();
        let own = format!("SELECT id FROM claim WHERE host_id = '{}'", host.id);
        let former = crate::checks::texts(&host.store, &own).await?;
        self.model.let_go.extend(former.into_iter().map(|claim| (claim, i64::MAX)));
        let host = &mut self.hosts[number];
        host.register(now).await?;
        self.note(|| format!("host {number} starts"));
        self.recover(number, true).await?;
        self.begin(number);
        Ok(())
    }

    /// SIGSTOP, and SIGCONT later: up to well beyond the duration of a lease.
    pub fn pause(&mut self, number: usize) {
        let takes = [3_000, 17_000, 22_000, 40_000][self.dice.below(4) as usize];
        self.hosts[number].paused_until = self.time + takes;
        self.note(|| format!("host {number} is stopped for {takes} ms"));
        if self.dice.percent(30) {
            // Gets a stop signal as soon as it continues, before any other work.
            self.after(takes as u64, Event::Stop(number));
        }
    }

    pub fn cut_off(&mut self, number: usize) {
        let takes = [2_000, 12_000, 30_000][self.dice.below(3) as usize];
        self.hosts[number].cut_off_until = self.time + takes;
        self.note(|| format!("host {number} is cut off for {takes} ms"));
    }

    pub fn clock_jumps(&mut self) {
        let by = [-60_000, -5_000, 20_000, 60_000, 120_000][self.dice.below(5) as usize];
        self.ahead += by;
        self.odd_at = self.time;
        self.note(|| format!("the database's clock jumps by {by} ms"));
    }
}
