//! `tidemill.toml` and the environment, validated. In reading order: [`raw`] (text to tree),
//! [`env`] (variables over it), [`reader`] (tree to values, collecting mistakes), [`keys`] (tables of keys), and
//! a file for each section.

mod audit;
mod databases;
pub mod edits;
mod engine;
mod env;
pub mod error;
mod flow;
mod grants;
mod host;
mod job;
mod keys;
pub mod limits;
mod log;
pub mod memory;
mod names;
mod plugins;
mod reader;
pub mod reload;
pub mod schedule;
mod secret;
mod server;
pub mod show;
mod signing_key;
mod sink;
mod suggestion;
pub mod text;
mod tls;
mod toml_tree;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::engine::EngineConfig;
use domain::job::JobSpec;
use jiff::Timestamp;
use sandbox::{Child, Compiler};
use store::StoreConfig;
use store::jobs::edits::Edit;

pub use self::env::Environment;
pub use self::error::ConfigError;
use self::grants::GrantTargets;
pub use self::names::NAME_REMEDY;
pub use self::plugins::PluginsConfig;
use self::reader::{Mistakes, Section};
pub use self::secret::{Named, SecretSource, Secrets};
pub use self::server::LISTEN_DEFAULT;
pub use self::signing_key::SigningKey;
pub use self::sink::{Nats, Redis, Sink, Subject, To};
pub use self::suggestion::did_you_mean;
pub use self::tls::Trusted;
use crate::archive::AuditConfig;
use crate::http::HttpLimits;
use crate::telemetry::LogConfig;

/// The running program itself, even if its file was replaced since the start.
const THIS_PROGRAM: &str = "/proc/self/exe";
const FILE_BYTES_MAX: usize = 4 << 20;

/// The complete configuration, validated.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    pub http: HttpLimits,
    /// Folder for the host's own data: its id and caches.
    pub data_dir: PathBuf,
    pub host_name: String,
    pub store: StoreConfig,
    pub plugins: PluginsConfig,
    /// How plugins are compiled.
    pub compiler: Compiler,
    pub engine: EngineConfig,
    pub jobs: Vec<Arc<JobSpec>>,
    pub sinks: Vec<Arc<Sink>>,
    /// Certificates that HTTPS trusts instead of the built-in roots, if any.
    pub tls: Trusted,
    pub secrets: Secrets,
    /// `None` keeps all audit records in the table.
    pub audit: Option<AuditConfig>,
    pub log: LogConfig,
}

/// The sources of a configuration. Settings made over the API override both.
#[derive(Debug, Clone)]
pub struct Source {
    pub file: PathBuf,
    pub environment: Environment,
}

impl Source {
    pub fn load(&self, edits: &[Edit], now: Timestamp) -> Result<Config, ConfigError> {
        load(&self.file, &self.environment, edits, now)
    }
}

impl Config {
    /// Loads the configuration without the settings made over the API.
    pub fn load(file: &Path, environment: &Environment, now: Timestamp) -> Result<Config, ConfigError> {
        load(file, environment, &[], now)
    }
}

fn load(
    file: &Path,
    environment: &Environment,
    edits: &[Edit],
    now: Timestamp,
) -> Result<Config, ConfigError> {
    let text = read(file)?;
    let mut root = toml_tree::parse(&text).map_err(|m| ConfigError::new(file.to_owned(), m))?;
    if root.is_empty() && !environment.speaks() {
        let remedy = "name at least one job; docs/tidemill.example.toml shows every key";
        return Err(ConfigError::of_file(
            file.to_owned(),
            "the file contains no settings".to_owned(),
            remedy,
        ));
    }
    let (mistakes, folder) = (Mistakes::default(), folder_of(file));
    mistakes.extend(env::overlay_mapped(&mut root, environment));
    mistakes.extend(env::overlay(&mut root, environment));
    mistakes.extend(edits::overlay(&mut root, edits));
    let config = check(Section::root(root, &folder, &mistakes), environment, now);
    let mistakes = mistakes.into_vec();
    match config {
        Some(config) if mistakes.is_empty() => Ok(config),
        _ => Err(ConfigError::new(file.to_owned(), mistakes)),
    }
}

fn read(file: &Path) -> Result<String, ConfigError> {
    let of_file = |what: String, remedy| ConfigError::of_file(file.to_owned(), what, remedy);
    let bytes = std::fs::read(file).map_err(|e| {
        let remedy = "name the file with --config, or start from docs/tidemill.example.toml";
        of_file(format!("cannot be read: {e}"), remedy)
    })?;
    if bytes.len() > FILE_BYTES_MAX {
        let what = format!("{} bytes are more than the {FILE_BYTES_MAX} that are read", bytes.len());
        return Err(of_file(what, "check that this is the right file"));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        of_file(format!("line {line} is not UTF-8"), "save the file as UTF-8")
    })
}

/// Paths in the file are relative to its folder, so that they do not depend on the working directory.
fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().unwrap_or(Path::new(""));
    let absolute = std::path::absolute(if folder == Path::new("") { Path::new(".") } else { folder });
    text::clean(&absolute.unwrap_or_else(|_| folder.to_owned()))
}

fn check(mut root: Section<'_>, environment: &Environment, now: Timestamp) -> Option<Config> {
    let secrets = secret::read(root.section("secrets"), environment);
    let (listen, http) = server::read(root.section("server"));
    let (data_dir, host_name) = host::read(root.section("host"));
    let (url, password, notify) = databases::store(root.section("store"), &data_dir, &secrets);
    let plugins = plugins::read(root.section("plugins"));
    let engine = engine::read(root.section("engine"), &host_name);
    let audit = audit::read(root.section("audit"), &data_dir);
    let log = log::read(root.section("log"));
    let datasources = databases::datasources(root.section("datasources"), url.as_deref(), &secrets);
    let names: BTreeSet<String> = datasources.keys().cloned().collect();
    let known = GrantTargets { datasources: &names, secrets: &secrets };
    let jobs: Vec<_> = root
        .section("jobs")
        .sections()
        .into_iter()
        .filter_map(|(name, section)| job::read(&name, section, &known, engine.memory_bytes, now))
        .map(Arc::new)
        .collect();
    let sinks = sink::read(root.section("sinks").sections(), &known);
    let tls = tls::trusted(root.section("tls"));
    root.finish();
    // The mistake of a datasource with an invalid address is reported already, so it is only skipped here.
    let datasources = datasources.into_iter().filter_map(|(name, config)| Some((name, config?)));
    Some(Config {
        listen: listen?,
        http,
        data_dir,
        host_name,
        store: StoreConfig { url: url?, password, notify, datasources: datasources.collect() },
        compiler: Compiler::Child(Child {
            program: PathBuf::from(THIS_PROGRAM),
            bounds: plugins.load.bounds(),
        }),
        plugins,
        engine,
        jobs,
        sinks,
        tls,
        secrets,
        audit,
        log,
    })
}
