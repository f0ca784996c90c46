//! The decision about a version that was found in a plugins folder or uploaded.

use domain::id::{Digest, HostId, PluginName};
use domain::plugin::{Asks, PluginVersion, VersionState};
use domain::release::{Approval, Decision, Release, ReleaseRules, Stage};
use jiff::Timestamp;

use super::{locked, make_stable, put_candidate, tell};
use crate::db::{Tx, args};
use crate::error::StoreError;
use crate::plugins::put_version;
use crate::plugins::releases::sql as releases_sql;

/// A usable version that a host found in its folder.
pub struct NewVersion<'a> {
    pub version: &'a PluginVersion,
    pub wants: &'a [String],
    /// Whether it may become active again if it was active before and was replaced.
    pub returns: bool,
    /// The host found it at its start: then it does not replace an uploaded version.
    pub at_start: bool,
    pub host: HostId,
}

/// The actor and the cause of a decision.
pub(crate) struct By<'a> {
    pub actor: &'a str,
    pub cause: &'a str,
}

/// Decides about a version by these rules.
pub(crate) async fn decide(
    tx: &mut Tx,
    found: &NewVersion<'_>,
    rules: &ReleaseRules,
    by: &By<'_>,
    now: Timestamp,
) -> Result<Decision, StoreError> {
    let (plugin, digest) = (&found.version.plugin, found.version.digest);
    let known = known(tx, plugin, digest).await?;
    if let Some(why) = known.quarantine {
        return Ok(Decision::Quarantined(why));
    }
    let release = locked(tx, plugin).await?;
    let stable = release.as_ref().and_then(|release| release.stable);
    if stable == Some(digest) {
        return Ok(Decision::Stable);
    }
    let candidate = release.as_ref().and_then(|release| release.candidate.as_ref());
    if let Some(candidate) = candidate.filter(|candidate| candidate.digest == digest) {
        return Ok(Decision::On(candidate.stage));
    }
    let stays = |release: &Release| !found.returns || (found.at_start && release.uploaded);
    if known.released && release.as_ref().is_some_and(stays) {
        return Ok(Decision::Replaced);
    }
    let wants = match stable {
        Some(stable) if rules.approval == Approval::Wider => wants(tx, found, stable).await?,
        _ => found.wants.to_vec(),
    };
    let stage = match stable {
        Some(_) if rules.approval == Approval::Wider && !wants.is_empty() => Some(Stage::Waiting),
        Some(_) if rules.canary.is_some() => Some(Stage::Canary),
        _ => None,
    };
    let state = match stage {
        Some(Stage::Waiting) => VersionState::Waiting(wants.join("\n")),
        _ => found.version.state.clone(),
    };
    put_version(tx, &PluginVersion { state, ..found.version.clone() }, found.host, now).await?;
    let Some(stage) = stage else {
        make_stable(tx, plugin, digest, by.cause, now).await?;
        return Ok(Decision::Stable);
    };
    put_candidate(tx, plugin, digest, stage, &wants, now).await?;
    let detail = format!("{digest}, {}: {}", by.cause, wants.join("; "));
    let action = if stage == Stage::Waiting { "plugin_waits" } else { "plugin_canary_began" };
    tell(tx, by.actor, action, plugin, detail.trim_end_matches([':', ' ']), now).await?;
    Ok(Decision::On(stage))
}

/// Requests of a version that the stable one does not have. If the host that found it does not run the stable
/// version, the recorded requests are compared.
async fn wants(tx: &mut Tx, found: &NewVersion<'_>, stable: Digest) -> Result<Vec<String>, StoreError> {
    let Some(asks) = found.version.asks.as_ref().filter(|_| found.wants.is_empty()) else {
        return Ok(found.wants.to_vec());
    };
    let before = known(tx, &found.version.plugin, stable).await?.asks;
    Ok(asks.beyond(&before.unwrap_or_default()))
}

#[derive(Default)]
pub(super) struct VersionRecord {
    pub released: bool,
    pub quarantine: Option<String>,
    /// `None` if the plugin could not be queried.
    asks: Option<Asks>,
}

pub(super) async fn known(
    tx: &mut Tx,
    plugin: &PluginName,
    digest: Digest,
) -> Result<VersionRecord, StoreError> {
    let args = args! { plugin: plugin.as_str(), digest: digest.to_string() };
    let rows = tx.fetch(releases_sql::KNOWN, &args).await?;
    let Some(row) = rows.first() else { return Ok(VersionRecord::default()) };
    let released = row.opt_int("released_at_ms")?.is_some();
    let asks = serde_json::from_str(&row.text("asks")?).ok();
    Ok(VersionRecord { released, quarantine: row.opt_text("quarantine")?, asks })
}
