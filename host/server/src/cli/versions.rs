//! The versions of one plugin, as a table.

use domain::text::escape;

use super::client::Remote;
use super::failure::Failure;
use super::output::{Output, line, print, short, time};
use crate::api::versions::{KnownVersion, PluginRelease, PluginVersions, VersionTried};
use crate::config::text::show_bytes;

pub fn show(remote: &Remote, plugin: &PluginVersions) -> Result<(), Failure> {
    let header = ["VERSION", "DIGEST", "SIZE", "STATE", "SINCE", "HOST", "KEPT", "REASON OR SUMMARY"];
    print(remote.output, plugin, &header, |plugin| plugin.versions.iter().map(version_row).collect())?;
    if remote.output == Output::Json {
        return Ok(());
    }
    if let Some(pin) = &plugin.pin {
        let (digest, by) = (short(Some(&pin.digest)), escape(&pin.by));
        line(&format!("pinned to {digest} since {} by {by}", time(pin.since)))?;
    }
    plugin.release.iter().try_for_each(show_release)
}

fn show_release(release: &PluginRelease) -> Result<(), Failure> {
    if release.stable.is_none() {
        line(&format!("taken out of use at {}", time(release.since)))?;
    }
    let Some(candidate) = &release.candidate else { return Ok(()) };
    let (digest, since) = (short(Some(&candidate.digest)), time(candidate.since));
    if candidate.stage == "canary" {
        line(&format!("{digest} is on trial since {since}"))?;
        line(&format!("  of its attempts    {}", tried(&candidate.tried)))?;
        return line(&format!("  of those before it {}", tried(&candidate.stable_tried)));
    }
    line(&format!("{digest} waits for approval since {since}; it asks for more than the active version:"))?;
    candidate.wants.iter().try_for_each(|wants| line(&format!("  + {}", escape(wants))))
}

fn tried(tried: &VersionTried) -> String {
    let mean = tried.cpu_us / tried.attempts.max(1);
    format!("{} of {} failed, {mean} µs of CPU time each", tried.failed, tried.attempts)
}

fn version_row(version: &KnownVersion) -> Vec<String> {
    let size = u64::try_from(version.size_bytes).unwrap_or_default();
    vec![
        version.version.clone(),
        short(Some(&version.digest)),
        show_bytes(size.next_multiple_of(1 << 10)),
        version.state.clone(),
        time(version.seen_at),
        version.host.chars().take(8).collect(),
        if version.kept { "yes" } else { "no" }.to_owned(),
        version.reason.clone().unwrap_or_else(|| version.summary.clone()),
    ]
}
