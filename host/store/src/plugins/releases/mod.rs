//! Releases: the active version of each plugin on all hosts, and the candidate to replace it. Each decision
//! is one transaction.

pub(crate) mod sql;

use std::collections::BTreeMap;

use domain::alert::{Alert, Severity};
use domain::id::{Digest, JobName, PluginName};
use domain::release::{Candidate, Decision, Release, ReleaseRules, Stage, TrialResults};
use jiff::Timestamp;

use crate::audit::{Entry, host_actor, write};
use crate::db::{Row, Tx, args};
use crate::error::StoreError;
use crate::plugins::Plugins;
use crate::plugins::releases::sql as releases_sql;
use crate::plugins::sql as plugins_sql;

mod decide;

pub use self::decide::NewVersion;
use self::decide::known;
pub(crate) use self::decide::{By, decide};

impl Plugins<'_> {
    pub async fn releases(self) -> Result<Vec<Release>, StoreError> {
        self.store.db.fetch(releases_sql::ALL, &[]).await?.iter().map(release).collect()
    }

    /// Decides about a version that a host found, by these rules. The decision holds for all hosts.
    pub async fn decide(
        self,
        found: &NewVersion<'_>,
        rules: &ReleaseRules,
        now: Timestamp,
    ) -> Result<Decision, StoreError> {
        let actor = host_actor(found.host);
        let cause = format!("found in the plugins folder of {actor}");
        let mut tx = self.store.db.begin().await?;
        let decision = decide(&mut tx, found, rules, &By { actor: &actor, cause: &cause }, now).await?;
        tx.commit().await?;
        Ok(decision)
    }

    /// Adds the results of attempts on one host.
    pub async fn add_tried(
        self,
        plugin: &PluginName,
        digest: Digest,
        tried: &TrialResults,
    ) -> Result<(), StoreError> {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let (attempts, failed) = (number(tried.attempts), number(tried.failed));
        let args = args! {
            plugin: plugin.as_str(),
            digest: digest.to_string(),
            attempts: attempts,
            failed: failed,
            cpu_us: number(tried.cpu_us),
        };
        self.store.db.execute(releases_sql::TRIED_ADD, &args).await.map(|_| ())
    }

    /// The results of attempts on all hosts since the trial began.
    pub async fn tried(self, plugin: &PluginName) -> Result<BTreeMap<Digest, TrialResults>, StoreError> {
        let one = |row: &Row| {
            let number = |column| row.int(column).map(|n| u64::try_from(n).unwrap_or_default());
            let (attempts, failed) = (number("attempts")?, number("failed")?);
            Ok((row.parse("digest")?, TrialResults { attempts, failed, cpu_us: number("cpu_us")? }))
        };
        self.store
            .db
            .fetch(releases_sql::TRIED, &args! { plugin: plugin.as_str() })
            .await?
            .iter()
            .map(one)
            .collect()
    }

    /// Makes the candidate stable. Returns `false` if it is no longer the candidate.
    pub async fn promote_candidate(
        self,
        plugin: &PluginName,
        digest: Digest,
        told: (&str, &str),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.db.begin().await?;
        if !is_candidate(&mut tx, plugin, digest, Stage::Canary).await? {
            return Ok(false);
        }
        let (actor, why) = told;
        make_stable(&mut tx, plugin, digest, &format!("promoted by {actor} after its trial"), now).await?;
        tell(&mut tx, actor, "plugin_promoted", plugin, &format!("{digest} {why}"), now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Removes the candidate and quarantines it, and raises an alert for each job. Returns `false` if it is
    /// no longer the candidate.
    pub async fn roll_back_candidate(
        self,
        plugin: &PluginName,
        digest: Digest,
        (actor, why): (&str, &str),
        jobs: &[JobName],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.db.begin().await?;
        if !is_candidate(&mut tx, plugin, digest, Stage::Canary).await? {
            return Ok(false);
        }
        quarantine(&mut tx, plugin, digest, why, now).await?;
        tell(&mut tx, actor, "plugin_rolled_back", plugin, &format!("{digest} {why}"), now).await?;
        let alert = Alert {
            kind: "plugin-rolled-back".to_owned(),
            key: digest.short(),
            severity: Severity::Critical,
            message: format!("version {} of plugin {plugin} was rolled back: {why}", digest.short()),
            metadata: serde_json::json!({ "plugin": plugin.as_str(), "digest": digest.to_string() })
                .to_string(),
        };
        for job in jobs {
            crate::alerts::raise(&mut tx, job, &alert, now).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Approves a version manually: a waiting candidate continues, and a quarantined version may be found
    /// again.
    pub async fn approve(
        self,
        plugin: &PluginName,
        digest: Digest,
        rules: &ReleaseRules,
        actor: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.db.begin().await?;
        let waits = is_candidate(&mut tx, plugin, digest, Stage::Waiting).await?;
        if !waits && known(&mut tx, plugin, digest).await?.quarantine.is_none() {
            let what = format!("version {} of plugin {plugin} does not wait for approval", digest.short());
            return Err(StoreError::Conflict(what));
        }
        let args = args! { plugin: plugin.as_str(), digest: digest.to_string(), why: None::<&str> };
        tx.execute(releases_sql::QUARANTINE, &args).await?;
        match (waits, rules.canary) {
            (true, Some(_)) => put_candidate(&mut tx, plugin, digest, Stage::Canary, &[], now).await?,
            (true, None) => {
                make_stable(&mut tx, plugin, digest, &format!("approved by {actor}"), now).await?;
            }
            (false, _) => {}
        }
        tell(&mut tx, actor, "plugin_approved", plugin, &digest.to_string(), now).await?;
        tx.commit().await
    }

    /// Makes a kept version stable manually, whatever its stage.
    pub async fn promote(
        self,
        plugin: &PluginName,
        digest: Digest,
        actor: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.db.begin().await?;
        let name = plugin.as_str();
        let args = args! { plugin: name, digest: digest.to_string() };
        if tx.fetch(plugins_sql::FILE_GET, &args).await?.is_empty() {
            return Err(StoreError::NotFound(format!("version {digest} of plugin {plugin} that is kept")));
        }
        locked(&mut tx, plugin).await?;
        let args = args! { plugin: name, digest: digest.to_string(), why: None::<&str> };
        tx.execute(releases_sql::QUARANTINE, &args).await?;
        make_stable(&mut tx, plugin, digest, &format!("promoted by {actor}"), now).await?;
        tell(&mut tx, actor, "plugin_promoted", plugin, &digest.to_string(), now).await?;
        tx.commit().await
    }

    /// Quarantines a version manually. Returns `false` if it is the stable version.
    pub async fn quarantine(
        self,
        plugin: &PluginName,
        digest: Digest,
        (actor, why): (&str, &str),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let release = locked(&mut tx, plugin).await?;
        if release.is_some_and(|release| release.stable == Some(digest)) {
            return Ok(false);
        }
        quarantine(&mut tx, plugin, digest, why, now).await?;
        tell(&mut tx, actor, "plugin_quarantined", plugin, &format!("{digest} {why}"), now).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Takes a plugin out of use manually, on all hosts. Returns `false` if it is not in use.
    pub async fn retire(self, plugin: &PluginName, actor: &str, now: Timestamp) -> Result<bool, StoreError> {
        let mut tx = self.store.db.begin().await?;
        let cause = format!("taken out of use by {actor}");
        let args = args! { plugin: plugin.as_str(), now: now, cause: cause };
        let retired = tx.execute(releases_sql::RETIRE, &args).await?;
        if retired > 0 {
            tell(&mut tx, actor, "plugin_taken_out", plugin, "", now).await?;
        }
        tx.commit().await?;
        Ok(retired > 0)
    }
}

/// Fetches the row and locks it until the end of the transaction.
pub(crate) async fn locked(tx: &mut Tx, plugin: &PluginName) -> Result<Option<Release>, StoreError> {
    tx.fetch(releases_sql::ONE, &args! { plugin: plugin.as_str() }).await?.first().map(release).transpose()
}

async fn is_candidate(
    tx: &mut Tx,
    plugin: &PluginName,
    digest: Digest,
    stage: Stage,
) -> Result<bool, StoreError> {
    let candidate = locked(tx, plugin).await?.and_then(|release| release.candidate);
    Ok(candidate.is_some_and(|candidate| candidate.digest == digest && candidate.stage == stage))
}

async fn make_stable(
    tx: &mut Tx,
    plugin: &PluginName,
    digest: Digest,
    cause: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (name, digest) = (plugin.as_str(), digest.to_string());
    let args = args! { plugin: name, digest: digest.as_str(), now: now, cause: cause };
    tx.execute(releases_sql::STABLE_PUT, &args).await?;
    let args = args! { plugin: name, digest: digest.as_str(), now: now };
    tx.execute(releases_sql::RELEASED, &args).await.map(|_| ())
}

async fn put_candidate(
    tx: &mut Tx,
    plugin: &PluginName,
    digest: Digest,
    stage: Stage,
    wants: &[String],
    now: Timestamp,
) -> Result<(), StoreError> {
    let args = args! {
        plugin: plugin.as_str(),
        digest: digest.to_string(),
        stage: stage.word(),
        now: now,
        wants: wants.join("\n"),
    };
    tx.execute(releases_sql::CANDIDATE_PUT, &args).await?;
    tx.execute(releases_sql::TRIED_FORGET, &args! { plugin: plugin.as_str() }).await.map(|_| ())
}

/// Quarantines a version, and removes it if it is the candidate.
async fn quarantine(
    tx: &mut Tx,
    plugin: &PluginName,
    digest: Digest,
    why: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (name, digest) = (plugin.as_str(), digest.to_string());
    let why = format!("in quarantine since {}: {why}", now.strftime("%Y-%m-%d %H:%M:%SZ"));
    let args = args! { plugin: name, digest: digest.as_str(), why: Some(why.as_str()) };
    tx.execute(releases_sql::QUARANTINE, &args).await?;
    let args = args! { plugin: name, digest: digest.as_str() };
    tx.execute(releases_sql::CANDIDATE_REMOVE, &args).await.map(|_| ())
}

async fn tell(
    tx: &mut Tx,
    actor: &str,
    action: &str,
    plugin: &PluginName,
    detail: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let entry = Entry { actor, action, job: None, subject: plugin.as_str(), detail };
    write(tx, &entry, now).await
}

fn release(row: &Row) -> Result<Release, StoreError> {
    let candidate = match row.opt_parse("candidate")? {
        None => None,
        Some(digest) => Some(Candidate {
            digest,
            stage: row.parse("stage")?,
            since: row.time("stage_since_ms")?,
            wants: row.text("wants")?.lines().map(str::to_owned).collect(),
        }),
    };
    Ok(Release {
        plugin: row.parse("plugin")?,
        stable: row.opt_parse("stable")?,
        since: row.time("since_ms")?,
        cause: row.text("cause")?,
        candidate,
        uploaded: row.int("uploaded")? > 0,
    })
}
