//! What happens outside the hosts: the business changes, and people decide.

use std::collections::BTreeMap;

use anyhow::Result;
use domain::effect::NewItem;
use domain::item::ManualDecision;
use domain::scope::Value;
use store::StoreError;
use store::items::DecisionRequest;

use crate::world::{Event, JOB, World};

impl World {
    /// Makes some business objects need work, and sometimes one need none any more.
    pub fn business(&mut self) {
        for _ in 0..1 + self.dice.below(5) {
            let number = self.dice.below(1_000);
            let kind = if self.dice.percent(6) { "poison" } else { "k" };
            self.model.open.insert(format!("{kind}{number:03}"));
        }
        if self.dice.percent(40) {
            let at = self.dice.below(self.model.open.len() as u64) as usize;
            if let Some(key) = self.model.open.iter().nth(at).cloned() {
                self.note(|| format!("{key} needs no work any more"));
                self.model.open.remove(&key);
            }
        }
    }

    /// A person decides on an item, first on those that wait for a decision, or adds one.
    pub async fn person(&mut self) -> Result<()> {
        if self.dice.percent(20) {
            return self.add().await;
        }
        let parked =
            "SELECT item_key FROM item WHERE state IN ('manual_required', 'abandoned') ORDER BY item_key";
        let parked = self.keys(parked).await?;
        let (keys, decision) = match parked.is_empty() || self.dice.percent(30) {
            true => (self.keys("SELECT item_key FROM item ORDER BY item_key").await?, self.decision()),
            false => (parked, ManualDecision::Retry),
        };
        let Some(key) = keys.get(self.dice.below(keys.len() as u64) as usize) else { return Ok(()) };
        if !matches!(decision, ManualDecision::Retry | ManualDecision::Resolve) {
            let wait = 3_000 + self.dice.below(10_000);
            self.after(wait, Event::Person);
        }
        let (decided, now) = (DecisionRequest::new(decision, None, "ada"), self.now());
        match self.store().items().decide(JOB, key, decided, now).await {
            Ok(_) => {
                self.note(|| format!("a person decides on {key}: {decision:?}"));
                self.model.due_is_open(key);
                Ok(())
            }
            Err(StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn decision(&mut self) -> ManualDecision {
        match self.dice.below(10) {
            0..=4 => ManualDecision::Retry,
            5 | 6 => ManualDecision::Resolve,
            7 | 8 => ManualDecision::Manual,
            _ => ManualDecision::Abandon,
        }
    }

    /// Poison stays with its hosts.
    async fn keys(&self, question: &str) -> Result<Vec<String>> {
        let keys = crate::checks::texts(self.store(), question).await?;
        Ok(keys.into_iter().filter(|key| !key.starts_with("poison")).collect())
    }

    async fn add(&mut self) -> Result<()> {
        let known = self.keys("SELECT item_key FROM item ORDER BY item_key").await?;
        let at = self.dice.below(known.len() as u64 + 1) as usize;
        let key = known.get(at).cloned().unwrap_or_else(|| "added".to_owned());
        let (item, now) =
            (NewItem { job: self.job.name.clone(), key: key.clone(), payload: "{}".to_owned() }, self.now());
        let (added, _) = self.store().items().add(&item, "ada", now).await?;
        self.note(|| format!("a person adds {key}: {added:?}"));
        self.model.offered.insert(key.clone());
        self.model.acknowledged.insert(key.clone());
        self.model.due_is_open(&key);
        Ok(())
    }

    /// Items that a discovery resolved may be found again before their backoff ends.
    pub async fn ended_elsewhere(&mut self) -> Result<()> {
        for key in self.keys("SELECT item_key FROM item WHERE state = 'resolved'").await? {
            self.model.due_is_open(&key);
        }
        Ok(())
    }

    /// Checks that no claim is renewed that its host does not work on.
    pub async fn check_let_go(&mut self) -> Result<()> {
        let rows = self.store().query("SELECT id, lease_until_ms FROM claim").await?;
        let lease = |row: Vec<Value>| match row.as_slice() {
            [Value::Text(claim), Value::Integer(until)] => Some((claim.clone(), *until)),
            _ => None,
        };
        self.model.leases(&rows.into_iter().filter_map(lease).collect::<BTreeMap<_, _>>());
        Ok(())
    }
}
