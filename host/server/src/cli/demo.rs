//! `tidemill demo`: runs a host with a simulated business beside it, at thirty times the pace,
//! and reports on both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use demo::mpc::{Mpc, MpcConfig};
use demo::services::{All, Services};
use demo::time::Time;
use demo::world::World;
use domain::clock::Clock;
use engine::EngineConfig;
use jiff::Timestamp;
use store::StoreConfig;
use store::opening::private;

use super::DemoArgs;
use crate::app::App;
use crate::app::signals::Signals;
use crate::config::memory::Machine;
use crate::config::{Config, Environment, PluginsConfig, Source};
use crate::telemetry::{self, LogConfig, say};

const WALLETS: &str = "wallet-keygen-retry";
/// In the data folder.
const CLOCK_FILE: &str = "clock";

pub fn run(args: DemoArgs) -> anyhow::Result<()> {
    // A slow statement is caused by the machine and is not interesting in the demo.
    let log =
        LogConfig { filter: "warn,engine::executor=error,sqlx=error".to_owned(), ..LogConfig::default() };
    telemetry::start(&log)?;
    crate::app::threads::check()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(play(args))
}

async fn play(args: DemoArgs) -> anyhow::Result<()> {
    let signals = Signals::install()?;
    let data = data_folder(args.data.as_deref())?;
    let plugins = copy_plugins(args.plugins.as_deref(), &data)?;
    let factor = 60.0 / args.minute;
    let clock = Clock::scaled(factor, shown_before(&data).unwrap_or_default().max(Timestamp::now()));

    let world_url = format!("sqlite://{}", data.join("business.db").display());
    let world = World::create(&world_url).await?;
    world.seed(clock.now().as_millisecond(), 1).await?;
    let mpc = Mpc::new(world.clone(), MpcConfig::default(), time(&clock, factor));

    let services = Services::start(Some(mpc.clone())).await?;

    let file = write_files(&data, services.address)?;
    let source = Source { file, environment: Environment::of_process() };
    let config = config(&args, &data, plugins, source.load(&[], Timestamp::now())?);
    let mut engine = EngineConfig::new("demo").scaled(factor);
    let machine = Machine::this();
    engine.memory_bytes = usize::try_from(machine.for_guests()).unwrap_or(usize::MAX);
    engine.memory_from = Some(machine.source);
    let app = App::start(source, config, engine, clock.clone()).await?;
    greet(&app, &data, services.address, args.minute);

    let services_seen = services.all.clone();
    let clock_file = data.join(CLOCK_FILE);
    let account =
        Account { store: app.store.clone(), world, mpc, services: services_seen, clock, clock_file };
    let account = tokio::spawn(account.tell(args.minute));
    let enough = async {
        match args.seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs_f64(seconds)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = enough => {}
        _ = app.until_stop(&signals) => {}
    }
    account.abort();
    say("stopping …");
    app.stop().await;
    say(&format!("stopped; the data stays in {}", data.display()));
    Ok(())
}

/// The time of the demo's clock when it last ran on this data. The clock continues from
/// there, like the schedules.
fn shown_before(data: &Path) -> Option<Timestamp> {
    std::fs::read_to_string(data.join(CLOCK_FILE)).ok()?.trim().parse().ok()
}

fn data_folder(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let folder = match named {
        Some(folder) => folder.to_owned(),
        None => std::env::temp_dir().join(format!("tidemill-demo-{}", std::process::id())),
    };
    private::make_folder(&folder)
        .with_context(|| format!("cannot make the folder {}; name another with --data", folder.display()))?;
    private::tighten(&folder);
    Ok(std::path::absolute(&folder)?)
}

/// The demo works on copies, so that its plugins can be broken without harm.
fn copy_plugins(named: Option<&Path>, data: &Path) -> anyhow::Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.parent()?.join("plugins"));
    let from = named.map(Path::to_owned).or_else(beside).unwrap_or_else(|| PathBuf::from("plugins"));
    let to = data.join("plugins");
    private::make_folder(&to)?;
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

/// Writes the demo's configuration to its data folder, where it can be read and edited.
fn write_files(data: &Path, services: SocketAddr) -> anyhow::Result<PathBuf> {
    let file = data.join("tidemill.toml");
    std::fs::write(&file, demo::config_with(services))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let batch = data.join("batch.json");
    std::fs::write(&batch, BATCH).with_context(|| format!("cannot write {}", batch.display()))?;
    Ok(file)
}

/// Uses the folders and databases beside the file.
fn config(args: &DemoArgs, data: &Path, plugins_dir: PathBuf, written: Config) -> Config {
    let store =
        StoreConfig { url: format!("sqlite://{}", data.join("tidemill.db").display()), ..written.store };
    Config {
        listen: args.listen,
        data_dir: data.to_owned(),
        host_name: "demo".to_owned(),
        store,
        plugins: PluginsConfig { dir: plugins_dir, ..written.plugins },
        ..written
    }
}

fn greet(app: &App, data: &Path, services: SocketAddr, minute: f64) {
    say(&format!(
        "tidemill demo: 300 users, 60 of them without a complete wallet; a minute takes {minute} s."
    ));
    say(&format!("  page     http://{}", app.address));
    say(&format!("  data     {}", data.display()));
    say(&format!("  services http://{services} (stock, proxy, ledger, mpc)"));
    say(&format!("  sandbox  {} allocator", app.sandbox.allocator()));
    say(&format!("\n{}", tour(data, services, &format!("--server http://{}", app.address))));
    say("  end      ctrl-c\n");
}

/// The guided tour: what to inspect, what to break, and what happens then.
fn tour(data: &Path, services: SocketAddr, server: &str) -> String {
    let (plugins, business) = (data.join("plugins"), data.join("business.db"));
    let (plugins, business, data) = (plugins.display(), business.display(), data.display());
    format!(
        "A tour, from another terminal (tidemill is {binary}):
  look   tidemill jobs {server}             eleven jobs, as {data}/tidemill.toml configures them; also: runs, audit, doctor
         tidemill alerts {server}           what is stuck; acknowledged and raised again, it is a new alert
         tidemill items --job finalize-retry --state awaiting {server}
                                            orders of dune-coffee, whose account is closed: tried again, later and later
  mend   sqlite3 {business} \"UPDATE payout_account SET state = 'open'\"
                                            their next try finalizes them
  add    tidemill batches add {data}/batch.json {server}
         tidemill batches show tour {server}   one is resolved; one waits for a person, as its operation is unknown
  edit   {data}/tidemill.toml, say the schedule of a job
                                            in effect within a second; a mistake changes nothing: tidemill audit {server}
  stop   curl -X PUT -d closes http://{services}/stock/mood
                                            customers keep buying; what cannot be replenished in three tries raises
                                            one alert a run: tidemill runs --job stock-replenish {server}
         curl -X PUT -d well http://{services}/stock/mood
                                            the next run fills everything; other moods: fails, refuses, rubbish, loses, hangs
  break  echo rubbish > {plugins}/ledger-outbox.wasm
                                            the page says rejected, and the previous version keeps running
  kill   kill -9 {pid}, then the same command with --data {data}
                                            interrupted items are put back, and nothing is done twice
",
        binary = std::env::current_exe().unwrap_or_default().display(),
        pid = std::process::id()
    )
}

/// A batch for the tour: one record that can be compensated for, and one that cannot.
const BATCH: &str = r#"{ "id": "tour", "job": "batch-compensation", "created_by": "tour", "items": [
    { "operation": "stock-return", "payload": { "campaign_id": 1, "units": 5 }, "failure_reason": "timed out at checkout" },
    { "operation": "refund", "payload": {}, "failure_reason": "nobody knows how" } ] }
"#;

/// The demo's report, once a minute of its time.
struct Account {
    store: Arc<store::Store>,
    world: World,
    mpc: Mpc,
    services: Arc<All>,
    clock: Clock,
    clock_file: PathBuf,
}

impl Account {
    async fn tell(self, minute: f64) {
        let began = self.clock.now();
        let mut all_done = false;
        for at in 0_u32.. {
            if let Err(error) = std::fs::write(&self.clock_file, self.clock.now().to_string()) {
                say(&format!("         the clock could not be saved: {error}"));
            }
            if let Err(error) = self.world.sell(i64::from(at)).await {
                say(&format!("         nothing sold: {error:#}"));
            }
            match self.line().await {
                Ok((text, incomplete)) => {
                    say(&format!("{:>3} min  {text}", self.clock.now().duration_since(began).as_mins()));
                    if incomplete == 0 && !all_done && at > 0 {
                        all_done = true;
                        say(
                            "         every wallet is complete. The host keeps checking every minute; stop it with ctrl-c.",
                        );
                    }
                }
                Err(error) => say(&format!("         no report: {error:#}")),
            }
            tokio::time::sleep(Duration::from_secs_f64(minute)).await;
        }
    }

    async fn line(&self) -> anyhow::Result<(String, i64)> {
        let counts = self.world.counts(self.clock.now().as_millisecond()).await?;
        let (mpc, stock) = (self.mpc.stats(), self.world.stock().await?);
        let run = self.store.runs(Some(WALLETS), 1).await?.first().map(store::runs::RunView::summary);
        let standing: Vec<String> =
            counts.by_status.iter().map(|(status, n)| format!("{n} {status}")).collect();
        let items = self.store.item_counts().await?;
        let items: Vec<String> = items
            .iter()
            .filter(|count| count.job.as_str() == WALLETS)
            .map(|count| format!("{} {}", count.items, count.state))
            .collect();
        let text = format!(
            "wallets {}/{} complete ({}) | items: {} | mpc: {} asked, {} failed, {} hung | stock: {} of {} low, {} batches | ledger: {} | last run: {}",
            counts.complete,
            counts.users,
            if standing.is_empty() { "none left".to_owned() } else { standing.join(", ") },
            items.join(", "),
            mpc.requested,
            mpc.failed,
            mpc.hung,
            stock.low,
            stock.campaigns,
            stock.batches,
            self.services.ledger.applied().len(),
            run.unwrap_or_else(|| "none yet".to_owned()),
        );
        Ok((text, counts.incomplete))
    }
}
