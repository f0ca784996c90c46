//! `tidemill demo`: runs a host with a simulated business beside it, at thirty times the pace,
//! and reports on both. Only the command line calls this module, and the host does not depend on it.

mod report;
mod tour;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use demo::mpc::{Mpc, MpcConfig};
use demo::services::Services;
use demo::time::Time;
use demo::world::World;
use domain::clock::Clock;
use engine::EngineConfig;
use jiff::Timestamp;
use store::StoreConfig;
use store::opening::private;

use self::report::Report;
use self::tour::{BATCH, tour};
use crate::app::App;
use crate::app::signals::Signals;
use crate::config::memory::Machine;
use crate::config::{Config, Environment, LISTEN_DEFAULT, PluginsConfig, Source};
use crate::telemetry::{self, LogConfig, say};

/// In the data folder.
const CLOCK_FILE: &str = "clock";

#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Folder of the plugins
    #[arg(long, value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// Folder for the demo's data (default: a new temporary folder)
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Address of the page and the API
    #[arg(long, value_name = "ADDR", default_value = LISTEN_DEFAULT)]
    pub listen: SocketAddr,
    /// Real seconds per minute of the demo
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = positive)]
    pub minute: f64,
    /// Stop after this many real seconds (default: run until ctrl-c)
    #[arg(long = "for", value_name = "SECONDS", value_parser = positive)]
    pub seconds: Option<f64>,
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if number.is_finite() && number > 0.0 {
        return Ok(number);
    }
    Err("use a number above 0".to_owned())
}

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
    let report = Report { store: app.store.clone(), world, mpc, services: services_seen, clock, clock_file };
    let report = tokio::spawn(report.print(args.minute));
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
    report.abort();
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
