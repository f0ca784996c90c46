//! The end of an attempt: its business commit, then its outcome.

use std::sync::Arc;

use anyhow::Result;
use domain::effect::{self, Effect};
use domain::failure::{ErrorInfo, Failure};
use domain::item::{self, Claimed};
use domain::lease::Hold;
use domain::outcome::{Outcome, decide};
use domain::plugin::Statement;
use domain::runner::Usage;
use domain::scope::{Scope, ScopeError, Value};
use jiff::SignedDuration;
use store::StoreError;
use store::attempts::commit::{AttemptEnd, Committed, Effects};
use store::attempts::scope::AttemptScope;

use crate::step::Wire;
use crate::world::{BUSINESS, Event, JOB, Process, World};

impl World {
    pub async fn attempt_end(&mut self, process: Process, number: u64) -> Result<()> {
        let host = process.host;
        let Some(item) = self.hosts[host].running.get(&number).cloned() else { return Ok(()) };
        if item.key.starts_with("poison") {
            self.crash(host);
            return Ok(());
        }
        let Some((result, effects)) = self.guest(host, &item).await? else {
            self.hosts[host].running.remove(&number);
            return Ok(());
        };
        let end = Arc::new(self.end_of(host, item, result, effects));
        if self.in_trouble() && self.dice.percent(3) {
            // A crash between the two commits.
            self.crash(host);
            return Ok(());
        }
        self.hosts[host].ended.insert(number);
        let wait = if self.dice.percent(10) { self.dice.below(16_000) } else { self.dice.below(5) };
        self.after(wait, Event::Commit(process, number, end));
        Ok(())
    }

    /// The guest's result; `None` if its item is no longer held.
    async fn guest(
        &mut self,
        host: usize,
        item: &Claimed,
    ) -> Result<Option<(Result<Outcome, Failure>, Effects)>> {
        let roll = if self.in_trouble() { self.dice.below(100) } else { 0 };
        let now = self.hosts[host].hands.now();
        let later = now.checked_add(SignedDuration::from_secs(3))?;
        let result = match roll {
            0..=69 => Ok(Outcome::Resolved { note: None }),
            70..=84 => Err(Failure::transient("flaky", "try later")),
            85..=91 => Ok(Outcome::Snoozed { until: later }),
            _ => Ok(Outcome::Awaiting { note: None }),
        };
        if !matches!(result, Ok(Outcome::Resolved { .. })) {
            return Ok(Some((result, Effects::default())));
        }
        let hold = Hold::new(self.hosts[host].trust.clone(), item.claimed_at);
        let scope = Arc::new(self.hosts[host].store.scope_of_attempt(self.job.clone(), item.clone(), hold));
        match self.business_effect(&scope, item).await {
            Ok(()) => {}
            Err(ScopeError::Unavailable(why)) => {
                self.note(|| format!("host {host}: a guest of {} was refused: {why}", item.key));
                scope.abort().await;
                return Ok(Some((Err(Failure::transient("refused", why)), Effects::default())));
            }
            Err(error) => anyhow::bail!("{error}"),
        }
        let ended = match scope.end().await {
            // Handled as in the executor: it is unknown whether the commit happened, so the attempt does not
            // count.
            Err(StoreError::Unavailable(why)) => {
                self.note(|| format!("host {host} could not commit {}: {why}", item.key));
                let retry_after = SignedDuration::from_secs(2);
                let failure = Failure::Throttled { retry_after, error: ErrorInfo::new("sql-commit", why) };
                return Ok(Some((Err(failure), Effects::default())));
            }
            ended => ended?,
        };
        let Some(effects) = ended else {
            self.note(|| format!("host {host} may not commit {} epoch {}", item.key, item.epoch));
            return Ok(None);
        };
        self.note(|| format!("host {host} commits the business of {} epoch {}", item.key, item.epoch));
        self.model.business_committed(&item.key, item.epoch);
        self.model.open.remove(&item.key);
        Ok(Some((result, effects)))
    }

    async fn business_effect(&mut self, scope: &Arc<AttemptScope>, item: &Claimed) -> Result<(), ScopeError> {
        let insert = Statement {
            datasource: BUSINESS.to_owned(),
            sql: "INSERT INTO witness (item_key, epoch) VALUES ($1, $2)".to_owned(),
            writes: true,
            params: None,
        };
        scope.sql_execute(&insert, vec![Value::Text(item.key.clone()), Value::Integer(item.epoch)]).await?;
        scope.add(Effect::Event(effect::Event::new(JOB, &item.key, "{}"))).await?;
        if self.odd_at < self.time - 60_000 {
            self.model.answered(&item.key, item.epoch);
        }
        Ok(())
    }

    pub fn end_of(
        &self,
        host: usize,
        item: Claimed,
        result: Result<Outcome, Failure>,
        effects: Effects,
    ) -> AttemptEnd {
        let ended_at = self.hosts[host].hands.now();
        AttemptEnd {
            ending: decide(&result, &item, &self.job.retry, ended_at),
            item,
            effects,
            host: self.hosts[host].id,
            failed_alert: Default::default(),
            digest: None,
            usage: Usage::default(),
            log: String::new(),
            ended_at,
        }
    }

    /// Sends the outcome, and repeats this until the answer arrives, as long as the host trusts its leases.
    pub async fn commit(&mut self, process: Process, number: u64, end: Arc<AttemptEnd>) -> Result<()> {
        if !self.hosts[process.host].running.contains_key(&number) {
            return Ok(());
        }
        match self.wire(process.host) {
            Wire::Answered => {
                self.write(process.host, &end).await?;
                self.hosts[process.host].running.remove(&number);
            }
            Wire::Refused => self.after(500, Event::Commit(process, number, end)),
            Wire::Unheard => {
                self.write(process.host, &end).await?;
                self.after(500, Event::Commit(process, number, end));
            }
            Wire::Late => {
                let late = 200 + self.dice.below(20_000);
                self.after(late, Event::LateEnd(process, number, end));
            }
        }
        Ok(())
    }

    /// The database carries out a request even if the host that sent it is gone.
    pub async fn late_end(&mut self, process: Process, number: u64, end: Arc<AttemptEnd>) -> Result<()> {
        self.write(process.host, &end).await?;
        let host = &mut self.hosts[process.host];
        if host.life == process.life {
            host.running.remove(&number);
        }
        Ok(())
    }

    pub async fn write(&mut self, host: usize, end: &Arc<AttemptEnd>) -> Result<()> {
        let (key, epoch) = (end.item.key.clone(), end.item.epoch);
        let committed = self.hosts[host].store.attempts().end(end.clone()).await?;
        self.note(|| {
            format!("the end of {key} epoch {epoch}, {}: {committed:?}", end.ending.verdict.as_str())
        });
        if committed == Committed::Applied {
            let again = !matches!(end.ending.event, item::Event::Resolved | item::Event::GiveUp);
            self.model.end_accepted(&key, epoch, again.then_some(end.ending.due_at));
            return Ok(());
        }
        let written = format!(
            "SELECT COUNT(*) FROM attempt WHERE item_id = '{}' AND epoch = {epoch} AND verdict <> 'lost'
            AND claim_id = '{}'",
            end.item.id, end.item.attempt_id
        );
        if crate::checks::number(self.store(), &written).await? > 0 {
            self.model.violated(format!("{key} epoch {epoch} was called stale, and its outcome is written"));
        }
        Ok(())
    }
}
