//! `tidemill plugins`.

use super::Failure;
use super::client::Remote;
use super::output::{Output, line, plain, print, short, time};
use crate::api::types::{Plugin, Plugins};
use crate::config::text::show_bytes;

pub fn run(remote: &Remote) -> Result<(), Failure> {
    let plugins: Plugins = remote.get(&["plugins"], &[])?;
    let header = ["PLUGIN", "VERSION", "DIGEST", "SIZE", "STATE", "SEEN", "REASON OR SUMMARY"];
    print(remote.output, &plugins, &header, |plugins| plugins.plugins.iter().map(row).collect())?;
    if remote.output == Output::Json {
        return Ok(());
    }
    for skipped in &plugins.skipped {
        let (file, reason) = (plain(&skipped.file), plain(&skipped.reason));
        line(&format!("skipped {file}: {reason}"))?;
    }
    for unsigned in &plugins.unsigned {
        let (file, reason) = (plain(&unsigned.file), plain(&unsigned.reason));
        line(&format!("not trusted {file}, although it runs: {reason}"))?;
    }
    if let Some(warning) = &plugins.warning {
        line(&format!("warning: {}", plain(warning)))?;
    }
    plugins.problem.map_or(Ok(()), |problem| line(&plain(&problem)))
}

fn row(plugin: &Plugin) -> Vec<String> {
    vec![
        plugin.plugin.clone(),
        plugin.version.clone(),
        short(Some(&plugin.digest)),
        show_bytes(plugin.size_bytes.next_multiple_of(1 << 10)),
        plugin.state.clone(),
        time(plugin.seen_at),
        plugin.reason.clone().unwrap_or_else(|| plugin.summary.clone()),
    ]
}
