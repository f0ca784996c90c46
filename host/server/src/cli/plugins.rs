//! `tidemill plugins`.

use super::Failure;
use super::client::Remote;
use super::output::{print, short, time};
use crate::api::types::{Plugin, Plugins};
use crate::config::text::show_bytes;

pub fn run(remote: &Remote) -> Result<(), Failure> {
    let plugins: Plugins = remote.get(&["plugins"], &[])?;
    let header = [
        "PLUGIN",
        "VERSION",
        "DIGEST",
        "SIZE",
        "STATE",
        "SEEN",
        "REASON OR SUMMARY",
    ];
    print(remote.output, &plugins, &header, |plugins| {
        plugins.plugins.iter().map(row).collect()
    })
}

fn row(plugin: &Plugin) -> Vec<String> {
    vec![
        plugin.plugin.clone(),
        plugin.version.clone(),
        short(Some(&plugin.digest)),
        show_bytes(plugin.size_bytes.next_multiple_of(1 << 10)),
        plugin.state.clone(),
        time(plugin.seen_at),
        plugin
            .reason
            .clone()
            .unwrap_or_else(|| plugin.summary.clone()),
    ]
}
