//! `tidemill migrate`: creates or upgrades the tables of the store without starting a host.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use store::opening::schema::Schema;
use store::opening::store_id::Remembered;
use store::opening::work_copy::Progress;
use store::store::hide_password;
use store::{Store, StoreError};

use super::failure::Failure;
use super::output::line;
use crate::app;
use crate::app::host_lock::HostLock;
use crate::config::{Config, Environment};

#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Show what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[arg(long, value_name = "FILE", default_value = "tidemill.toml")]
    config: PathBuf,
}

pub fn run(args: &MigrateArgs) -> Result<(), Failure> {
    let config = Config::load(&args.config, &Environment::of_process(), Timestamp::now())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start the runtime: {e}")))?;
    runtime.block_on(migrate(&config, args.dry_run))
}

async fn migrate(config: &Config, dry_run: bool) -> Result<(), Failure> {
    let failed = |error: StoreError| Failure::failed(error.to_string());
    let schema = Schema::of(&config.store).await.map_err(failed)?;
    for text in plan(&schema, &hide_password(&config.store.url)) {
        line(&text)?;
    }
    if dry_run || schema.is_current() {
        return Ok(());
    }
    // An SQLite store has at most one host, which holds its lock. On Postgres, heartbeats
    // show the running hosts.
    let _lock = match config.store.is_postgres() {
        true => None,
        false => Some(HostLock::take(&config.data_dir, &config.store.url)?),
    };
    let known = Remembered::of(&config.data_dir).map_err(failed)?;
    // A reader that went away must not stop the upgrade.
    let report = |progress: &Progress| drop(line(&format!("  {progress}")));
    let store = Store::open_reporting(&config.store, app::upgrade(config), known.as_ref(), &report);
    store.await.map_err(failed)?.close().await;
    line(&format!("the store has schema {}", schema.latest))
}

fn plan(schema: &Schema, url: &str) -> Vec<String> {
    let (version, latest) = (env!("CARGO_PKG_VERSION"), schema.latest);
    let mut lines = vec![match schema.present {
        None => format!("{url} has no store yet; tidemill {version} makes one with schema {latest}"),
        Some(present) if schema.is_current() => {
            format!("{url} has schema {present}, which is that of tidemill {version}: nothing to do")
        }
        Some(_) if schema.is_copying() => {
            format!(
                "{url} has an upgrade to schema {latest} that is not complete; tidemill {version} continues it"
            )
        }
        Some(present) => {
            format!("{url} has schema {present}; tidemill {version} upgrades it to schema {latest}")
        }
    }];
    lines.extend(schema.pending.iter().map(|(number, name)| format!("  {number:>4}  {name}")));
    lines
}
