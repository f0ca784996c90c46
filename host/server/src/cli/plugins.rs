//! `tidemill plugins`: versions, and decisions of people on them.

use clap::{Args, Subcommand};
use domain::text::escape;
use serde_json::{Value, json};

use super::client::Remote;
use super::failure::Failure;
use super::output::{Output, line, print, short, time};
use super::uploads;
use super::versions::show;
use crate::api::plugins::{Plugin, Plugins};
use crate::api::versions::PluginVersions;
use crate::config::text::show_bytes;

#[derive(Debug, Args)]
pub struct PluginsArgs {
    #[command(subcommand)]
    command: Option<PluginsCommand>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Debug, Subcommand)]
enum PluginsCommand {
    /// List all known versions of a plugin, last changed first
    Show {
        plugin: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Show a version's imports, statements, topics and config schema
    Inspect {
        plugin: String,
        /// Its digest, or the first digits of its digest
        digest: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Pin a version: all hosts run it, regardless of their folders
    Pin {
        plugin: String,
        /// Its digest, or the first digits of its digest
        digest: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Roll back: pin the previously active version
    Rollback {
        plugin: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Approve a version that waits for approval or is in quarantine
    Approve {
        plugin: String,
        /// Its digest, or the first digits of its digest
        digest: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Activate a version now, without waiting for approval or its trial
    Promote {
        plugin: String,
        /// Its digest, or the first digits of its digest
        digest: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Quarantine a version: only a person can bring it back
    Quarantine {
        plugin: String,
        /// Its digest, or the first digits of its digest
        digest: String,
        /// The reason, for the audit trail
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Retire a plugin on all hosts until a new version is found or one is promoted
    Retire {
        plugin: String,
        #[command(flatten)]
        remote: Remote,
    },
    /// Replay a job's last attempts on the active version and on the one in FILE, and discard the results;
    /// exit code 0 if nothing differs, 1 if something does
    Replay(uploads::ReplayArgs),
    /// Upload the version in FILE to all hosts: handled like a new file in a plugins folder
    Upload(uploads::UploadArgs),
    /// Remove the pin: the plugins folders decide again
    Unpin {
        plugin: String,
        #[command(flatten)]
        remote: Remote,
    },
}

pub fn run(args: PluginsArgs) -> Result<(), Failure> {
    match args.command {
        None => list(&args.remote),
        Some(PluginsCommand::Show { plugin, remote }) => {
            show(&remote, &remote.get(&["plugins", &plugin], &[])?)
        }
        Some(PluginsCommand::Inspect { plugin, digest, remote }) => inspect(&remote, &plugin, &digest),
        Some(PluginsCommand::Pin { plugin, digest, remote }) => {
            show(&remote, &remote.post(&["plugins", &plugin, "pin"], &json!({ "digest": digest }))?)
        }
        Some(PluginsCommand::Rollback { plugin, remote }) => {
            show(&remote, &remote.post(&["plugins", &plugin, "rollback"], &json!({}))?)
        }
        Some(PluginsCommand::Approve { plugin, digest, remote }) => {
            show(&remote, &remote.post(&["plugins", &plugin, "approve"], &json!({ "digest": digest }))?)
        }
        Some(PluginsCommand::Promote { plugin, digest, remote }) => {
            show(&remote, &remote.post(&["plugins", &plugin, "promote"], &json!({ "digest": digest }))?)
        }
        Some(PluginsCommand::Quarantine { plugin, digest, reason, remote }) => {
            let which = json!({ "digest": digest, "reason": reason });
            show(&remote, &remote.post(&["plugins", &plugin, "quarantine"], &which)?)
        }
        Some(PluginsCommand::Retire { plugin, remote }) => {
            show(&remote, &remote.post(&["plugins", &plugin, "retire"], &json!({}))?)
        }
        Some(PluginsCommand::Replay(args)) => uploads::replay(&args),
        Some(PluginsCommand::Upload(args)) => uploads::upload(&args),
        Some(PluginsCommand::Unpin { plugin, remote }) => {
            show(&remote, &remote.post(&["plugins", &plugin, "unpin"], &json!({}))?)
        }
    }
}

fn list(remote: &Remote) -> Result<(), Failure> {
    let plugins: Plugins = remote.get(&["plugins"], &[])?;
    let header = ["PLUGIN", "VERSION", "DIGEST", "SIZE", "STATE", "SEEN", "REASON OR SUMMARY"];
    print(remote.output, &plugins, &header, |plugins| plugins.plugins.iter().map(row).collect())?;
    if remote.output == Output::Json {
        return Ok(());
    }
    for skipped in &plugins.skipped {
        let (file, reason) = (escape(&skipped.file), escape(&skipped.reason));
        line(&format!("skipped {file}: {reason}"))?;
    }
    for unsigned in &plugins.unsigned {
        let (file, reason) = (escape(&unsigned.file), escape(&unsigned.reason));
        line(&format!("not trusted {file}, although it runs: {reason}"))?;
    }
    if let Some(warning) = &plugins.warning {
        line(&format!("warning: {}", escape(warning)))?;
    }
    plugins.problem.map_or(Ok(()), |problem| line(&escape(&problem)))
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

fn inspect(remote: &Remote, plugin: &str, digest: &str) -> Result<(), Failure> {
    let known: PluginVersions = remote.get(&["plugins", plugin], &[])?;
    let digest = digest.to_ascii_lowercase();
    let found = known.versions.iter().find(|version| version.digest.starts_with(&digest));
    let Some(version) = found else {
        return Err(Failure::failed(format!("plugin {plugin} has no version {digest:?}")));
    };
    let shown = serde_json::to_value(version).unwrap_or(Value::Null);
    line(&format!("{shown:#}"))
}
