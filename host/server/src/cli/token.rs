//! `tidemill token`: manages the tokens of the API. Uses the store directly, not the API.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use store::Store;
use store::opening::schema::Opening;
use store::opening::store_id::Remembered;
use uuid::Uuid;

use super::failure::Failure;
use super::output::{line, print_table, time};
use crate::api::hash_of_token;
use crate::config::{Config, Environment};

#[derive(Debug, Args)]
pub struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
    #[arg(long, value_name = "FILE", default_value = "tidemill.toml", global = true)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print it, once; from the first one on, changes over the API need one
    Add {
        /// Who it is for: the audit trail names it
        name: String,
    },
    /// Take a token's right away
    Remove { name: String },
    /// Whose tokens there are
    List,
}

pub fn run(args: TokenArgs) -> Result<(), Failure> {
    let config = Config::load(&args.config, &Environment::of_process(), Timestamp::now())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start the runtime: {e}")))?;
    runtime.block_on(async {
        // An older host may be running on this store: its tables stay unchanged.
        let known = Remembered::of(&config.data_dir).map_err(|e| Failure::failed(e.to_string()))?;
        let store = Store::open_known(&config.store, Opening::AsIs, known.as_ref()).await;
        let store = store.map_err(|e| Failure::failed(e.to_string()))?;
        let done = act(&store, args.command).await;
        store.close().await;
        done
    })
}

/// Actors without a token: a user of this machine, the host itself, and a job's schedule.
const RESERVED: [&str; 3] = ["local", "tidemill", "schedule"];

async fn act(store: &Store, command: TokenCommand) -> Result<(), Failure> {
    let failed = |error: store::StoreError| Failure::failed(error.to_string());
    let now = Timestamp::now();
    match command {
        TokenCommand::Add { name } => {
            if name.parse::<domain::id::Name>().is_err() {
                let text = format!("{name:?} is not a token's name: {}", crate::config::NAME_REMEDY);
                return Err(Failure::Usage(text));
            }
            if RESERVED.contains(&name.as_str()) {
                let text = format!("{name:?} is reserved: the audit trail uses this name for another actor");
                return Err(Failure::Usage(text));
            }
            let token = format!("tidemill_{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
            store.tokens().add(&name, &hash_of_token(&token), now).await.map_err(failed)?;
            line(&token)
        }
        TokenCommand::Remove { name } => {
            store.tokens().remove(&name, now).await.map_err(failed)?;
            line(&format!("removed the token {name:?}"))
        }
        TokenCommand::List => {
            let tokens = store.tokens().list().await.map_err(failed)?;
            let rows = tokens.iter().map(|token| vec![token.name.clone(), time(token.created_at)]);
            print_table(&["NAME", "CREATED"], rows.collect())
        }
    }
}
