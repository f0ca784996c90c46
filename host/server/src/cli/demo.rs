//! `tidemill demo`: a host with a business world beside it, at thirty times the pace, and a running account of both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use demo::mpc::{Mpc, MpcConfig};
use demo::time::Time;
use demo::world::World;
use domain::clock::Clock;
use domain::id::EventId;
use engine::EngineConfig;
use jiff::Timestamp;
use store::StoreConfig;

use super::DemoArgs;
use crate::app::{App, stop_signal};
use crate::config::{Config, Environment};
use crate::telemetry::{self, LogConfig};

const TOPIC: &str = "MpcKeygenRequested";
const WALLETS: &str = "wallet-keygen-retry";
/// Requests that the MPC service refuses this often are given up.
const DELIVERIES_MAX: u32 = 5;
/// How often the MPC service looks for requests, in real time.
const DELIVERY_PERIOD: Duration = Duration::from_millis(200);

pub fn run(args: DemoArgs) -> anyhow::Result<()> {
    let log = LogConfig { filter: "warn,engine::executor=error".to_owned(), ..LogConfig::default() };
    telemetry::start(&log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(play(args))
}

async fn play(args: DemoArgs) -> anyhow::Result<()> {
    let data = data_folder(args.data.as_deref())?;
    let plugins = copy_plugins(args.plugins.as_deref(), &data)?;
    let factor = 60.0 / args.minute;
    let clock = Clock::scaled(factor);

    let world_url = format!("sqlite://{}", data.join("business.db").display());
    let world = World::create(&world_url).await?;
    world.seed(clock.now().as_millisecond(), 1).await?;
    let mpc = Mpc::new(world.clone(), MpcConfig::default(), time(&clock, factor));

    let config = config(&args, &data, plugins)?;
    let engine = EngineConfig::new("demo").scaled(factor);
    let app = App::start(config, engine, clock.clone()).await?;
    greet(&app, &data, args.minute);

    let delivery = tokio::spawn(deliver(app.store.clone(), mpc.clone(), clock.clone()));
    let account = tokio::spawn(account(app.store.clone(), world, mpc, clock, args.minute));
    match args.seconds {
        Some(seconds) => tokio::select! {
            _ = tokio::time::sleep(Duration::from_secs_f64(seconds)) => {}
            stopped = stop_signal() => stopped?,
        },
        None => stop_signal().await?,
    }
    delivery.abort();
    account.abort();
    println!("stopping …");
    app.stop().await;
    println!("stopped; the data stays in {}", data.display());
    Ok(())
}

fn data_folder(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let folder = match named {
        Some(folder) => folder.to_owned(),
        None => std::env::temp_dir().join(format!("tidemill-demo-{}", std::process::id())),
    };
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}; name another with --data", folder.display()))?;
    Ok(std::path::absolute(&folder)?)
}

/// The demo works on copies, so that its plugins can be broken without harm.
fn copy_plugins(named: Option<&Path>, data: &Path) -> anyhow::Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("plugins"));
    let from = named.map(Path::to_owned).or_else(beside).unwrap_or_else(|| PathBuf::from("plugins"));
    let to = data.join("plugins");
    std::fs::create_dir_all(&to)?;
    for name in demo::JOBS {
        let file = format!("{name}.wasm");
        let source = from.join(&file);
        if !source.is_file() {
            bail!(
                "there is no {file} in {}: build it with `cargo xtask plugins`, or name the folder with --plugins",
                from.display()
            );
        }
        std::fs::copy(&source, to.join(&file))
            .with_context(|| format!("cannot copy {}", source.display()))?;
    }
    Ok(to)
}

fn time(clock: &Clock, factor: f64) -> Time {
    let clock = clock.clone();
    Time { now_ms: Arc::new(move || clock.now().as_millisecond()), real_ms_per_simulated_ms: 1.0 / factor }
}

/// The demo's file lies in its data folder, to be looked at. Folders and databases are those beside it.
fn config(args: &DemoArgs, data: &Path, plugins_dir: PathBuf) -> anyhow::Result<Config> {
    let file = data.join("tidemill.toml");
    std::fs::write(&file, demo::CONFIG).with_context(|| format!("cannot write {}", file.display()))?;
    let batch = data.join("batch.json");
    std::fs::write(&batch, BATCH).with_context(|| format!("cannot write {}", batch.display()))?;
    let config = Config::load(&file, &Environment::of_process(), Timestamp::now())?;
    Ok(Config {
        listen: args.listen,
        data_dir: data.to_owned(),
        host_name: "demo".to_owned(),
        store: StoreConfig {
            url: format!("sqlite://{}", data.join("tidemill.db").display()),
            ..config.store
        },
        plugins_dir,
        ..config
    })
}

fn greet(app: &App, data: &Path, minute: f64) {
    println!("tidemill demo: 300 users, 60 of them without a complete wallet; a minute takes {minute} s.");
    println!("  page     http://{}", app.address);
    println!("  data     {}", data.display());
    println!("  sandbox  {} allocator", app.sandbox.allocator());
    println!("\n{}", tour(data, &format!("--server http://{}", app.address)));
    println!("  end      ctrl-c\n");
}

/// What to look at, what to break, and what will be seen.
fn tour(data: &Path, server: &str) -> String {
    let (plugins, business) = (data.join("plugins"), data.join("business.db"));
    let (plugins, business, data) = (plugins.display(), business.display(), data.display());
    format!(
        "A tour, from another terminal:
  look   tidemill jobs {server}             ten jobs, as {data}/tidemill.toml configures them; also: runs, audit, doctor
         tidemill alerts {server}           campaigns without stock; acknowledged and raised again, it is a new alert
         tidemill items --job finalize-retry --state awaiting {server}
                                            orders of dune-coffee, whose account is closed: tried again, later and later
  mend   sqlite3 {business} \"UPDATE payout_account SET state = 'open'\"
                                            their next try finalizes them
  add    tidemill batches add {data}/batch.json {server}
         tidemill batches show tour {server}   one is resolved; one waits for a person, as its operation is unknown
  break  echo rubbish > {plugins}/ledger-outbox.wasm
                                            the page says rejected, and the version from before goes on
  kill   kill -9 {pid}, then the same command with --data {data}
                                            what was running is put back, and nothing is done twice
",
        pid = std::process::id()
    )
}

/// A batch for the tour: a record that can be made up for, and one that cannot.
const BATCH: &str = r#"{ "id": "tour", "job": "batch-compensation", "created_by": "tour", "items": [
    { "operation": "stock-return", "payload": { "campaign_id": 1, "units": 5 }, "failure_reason": "timed out at checkout" },
    { "operation": "refund", "payload": {}, "failure_reason": "nobody knows how" } ] }
"#;

/// Hands the published requests to the MPC service, each at least once.
async fn deliver(store: Arc<store::Store>, mpc: Mpc, clock: Clock) {
    let mut refusals: BTreeMap<EventId, u32> = BTreeMap::new();
    loop {
        let pending = store.events_pending(Some(TOPIC), 100).await.unwrap_or_default();
        let mut taken = Vec::new();
        for event in &pending {
            let refused = mpc.handle(&event.payload).await.is_err();
            let count = refusals.entry(event.id).or_default();
            *count += u32::from(refused);
            if !refused || *count >= DELIVERIES_MAX {
                refusals.remove(&event.id);
                taken.push(event.id);
            }
        }
        if !taken.is_empty()
            && let Err(error) = store.events_taken(&taken, clock.now()).await
        {
            tracing::warn!(%error, "requests will be delivered again");
        }
        tokio::time::sleep(DELIVERY_PERIOD).await;
    }
}

/// One line a minute of the demo's time.
async fn account(store: Arc<store::Store>, world: World, mpc: Mpc, clock: Clock, minute: f64) {
    let began = clock.now();
    let mut all_done = false;
    for at in 0_u32.. {
        match line(&store, &world, &mpc, &clock).await {
            Ok((text, incomplete)) => {
                println!("{:>3} min  {text}", clock.now().duration_since(began).as_mins());
                if incomplete == 0 && !all_done && at > 0 {
                    all_done = true;
                    println!(
                        "         every wallet is complete. The host goes on looking each minute; end it with ctrl-c."
                    );
                }
            }
            Err(error) => println!("         no account: {error:#}"),
        }
        tokio::time::sleep(Duration::from_secs_f64(minute)).await;
    }
}

async fn line(
    store: &store::Store,
    world: &World,
    mpc: &Mpc,
    clock: &Clock,
) -> anyhow::Result<(String, i64)> {
    let counts = world.counts(clock.now().as_millisecond()).await?;
    let stats = mpc.stats();
    let run = store.runs(Some(WALLETS), 1).await?.first().map(store::runs::RunView::summary);
    let standing: Vec<String> = counts.by_status.iter().map(|(status, n)| format!("{n} {status}")).collect();
    let items = store.item_counts().await?;
    let items: Vec<String> = items
        .iter()
        .filter(|count| count.job.as_str() == WALLETS)
        .map(|count| format!("{} {}", count.items, count.state))
        .collect();
    let text = format!(
        "wallets {}/{} complete ({}) | items: {} | mpc: {} asked, {} failed, {} hung | last run: {}",
        counts.complete,
        counts.users,
        if standing.is_empty() { "none left".to_owned() } else { standing.join(", ") },
        items.join(", "),
        stats.requested,
        stats.failed,
        stats.hung,
        run.unwrap_or_else(|| "none yet".to_owned()),
    );
    Ok((text, counts.incomplete))
}
