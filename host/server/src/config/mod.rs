//! `tidemill.toml` and the environment, validated. In reading order: [`raw`] (text to tree),
//! [`env`] (variables over it), [`reader`] (tree to values, collecting mistakes), and the sections:
//! here, [`job`] and [`limits`].

pub mod edits;
mod engine;
mod env;
pub mod error;
mod flow;
mod grants;
mod host;
mod http;
mod job;
mod keys;
pub mod limits;
pub mod memory;
mod names;
mod plugins;
mod raw;
mod reader;
pub mod reload;
pub mod schedule;
mod secret;
pub mod show;
mod signing_key;
mod sink;
mod suggestion;
pub mod text;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::engine::EngineConfig;
use domain::job::JobSpec;
use domain::secret::Secret;
use jiff::{SignedDuration, Timestamp};
use sandbox::{Child, Compiler};
use store::StoreConfig;
use store::config::DatasourceConfig;
use store::jobs::edits::Edit;
use store::opening::sqlite_file::SqliteFile;

pub use self::env::Environment;
pub use self::error::ConfigError;
use self::error::Mistaken;
use self::grants::Known;
use self::keys::{Key, at_least};
pub use self::names::NAME_REMEDY;
pub use self::plugins::PluginsConfig;
use self::reader::{Located, Mistakes, Section};
pub use self::secret::{Named, SecretSource, Secrets};
pub use self::signing_key::SigningKey;
pub use self::sink::{Nats, Redis, Sink, Subject, To};
pub use self::suggestion::did_you_mean;
pub use self::tls::Trusted;
use crate::archive::AuditConfig;
use crate::http::HttpLimits;
use crate::telemetry::{LogConfig, LogFormat};

pub const LISTEN_DEFAULT: &str = "127.0.0.1:7070";
/// The running program itself, even if its file was replaced since the start.
const THIS_PROGRAM: &str = "/proc/self/exe";
const FILE_BYTES_MAX: usize = 4 << 20;
/// Minimum of the intervals and of the retention times.
const TIME_MIN: SignedDuration = SignedDuration::from_millis(100);

const AUDIT_KEYS: [Key<AuditConfig>; 3] = [
    keys::time!("retention", retention, |time| at_least(time, TIME_MIN)),
    keys::folder!("archive_dir", dir),
    keys::time!("every", every, |time| at_least(time, TIME_MIN)),
];

const LOG_KEYS: [Key<LogConfig>; 2] = [
    keys::word!("format", format, [("text", LogFormat::Text), ("json", LogFormat::Json)]),
    keys::text!("filter", filter, |filter| log_filter(filter)),
];

fn log_filter(filter: &str) -> Result<(), Mistaken> {
    let remedy = "use a level like \"info\", or \"info,engine=debug\"";
    crate::telemetry::check_filter(filter).map_err(|what| (what, remedy.to_owned()))
}

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
    let mut root = raw::parse(&text).map_err(|m| ConfigError::new(file.to_owned(), m))?;
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
    let (listen, http) = server(root.section("server"));
    let (data_dir, host_name) = host::read(root.section("host"));
    let (url, password) = store(root.section("store"), &data_dir, &secrets);
    let plugins = plugins::read(root.section("plugins"));
    let engine = engine::read(root.section("engine"), &host_name);
    let audit = audit(root.section("audit"), &data_dir);
    let log = log(root.section("log"));
    let datasources = datasources(root.section("datasources"), url.as_deref(), &secrets);
    let names: BTreeSet<String> = datasources.keys().cloned().collect();
    let known = Known { datasources: &names, secrets: &secrets };
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
        store: StoreConfig { url: url?, password, datasources: datasources.collect() },
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

fn server(mut section: Section<'_>) -> (Option<SocketAddr>, HttpLimits) {
    let listen = match section.text("listen") {
        Some(found) => listen_address(&section, &found),
        None => LISTEN_DEFAULT.parse().ok(),
    };
    let limits = http::read(section.section("limits"));
    section.finish();
    (listen, limits)
}

/// Only loopback addresses, because tokens protect writes and reads are open.
fn listen_address(section: &Section<'_>, found: &Located<String>) -> Option<SocketAddr> {
    let Ok(listen) = found.value.parse::<SocketAddr>() else {
        let what = format!("{:?} is not an address with a port", found.value);
        section.blame_found(found, what, format!("use {LISTEN_DEFAULT:?} or \"[::1]:7070\""));
        return None;
    };
    if !listen.ip().is_loopback() {
        let ip = listen.ip();
        let what = format!("{ip} can be reached by others, and reading needs no token");
        section.blame_found(found, what, "use 127.0.0.1 or [::1]");
        return None;
    }
    Some(listen)
}

fn store(mut section: Section<'_>, data_dir: &Path, secrets: &Secrets) -> (Option<String>, Option<Secret>) {
    let url = match section.text("url") {
        Some(found) => database(&section, &found),
        None => default_store(&section, data_dir),
    };
    let password = password(&mut section, url.as_deref(), secrets);
    section.finish();
    (url, password)
}

/// The default is a file in the data folder. Earlier versions always used the folder `data` beside the
/// configuration. An existing file there is reported as a mistake, so that it is not silently ignored.
fn default_store(section: &Section<'_>, data_dir: &Path) -> Option<String> {
    let (file, former) = (data_dir.join("tidemill.db"), section.folder.join("data/tidemill.db"));
    if former.exists() && !file.exists() {
        let what = format!("the store is by default {}, but it lies in {}", file.display(), former.display());
        let remedy = format!(
            "set url = \"sqlite://data/tidemill.db\" to leave it there, or move the file, and the -wal and -shm beside it \
             if there are any, to {} while no host runs",
            data_dir.display()
        );
        section.blame("url", what, remedy);
        return None;
    }
    let file = SqliteFile::new(&file, "");
    file.map(|file| file.url()).map_err(|what| section.blame("url", what, text::STORE_REMEDY)).ok()
}

/// The password for Postgres, which is not part of the address.
fn password(section: &mut Section<'_>, url: Option<&str>, secrets: &Secrets) -> Option<Secret> {
    if url.is_some_and(|url| url.starts_with("sqlite:"))
        && let Some(found) = section.text("password")
    {
        section.blame_found(&found, "an SQLite file has no password", "remove it");
        return None;
    }
    secrets.named(section, "password").map(|named| named.secret)
}

fn database(section: &Section<'_>, found: &Located<String>) -> Option<String> {
    text::database_url(&found.value, section.folder)
        .map_err(|what| section.blame_found(found, what, text::STORE_REMEDY))
        .ok()
}

/// Without a retention, no records are archived.
fn audit(mut section: Section<'_>, data_dir: &Path) -> Option<AuditConfig> {
    let is_archived = section.has("retention");
    let mut audit = AuditConfig {
        retention: SignedDuration::MAX,
        dir: data_dir.join("audit-archive"),
        every: SignedDuration::from_hours(24),
    };
    keys::read(&AUDIT_KEYS, &mut section, &mut audit);
    section.finish();
    is_archived.then_some(audit)
}

fn log(mut section: Section<'_>) -> LogConfig {
    let mut log = LogConfig::default();
    keys::read(&LOG_KEYS, &mut section, &mut log);
    section.finish();
    log
}

/// A datasource with an invalid address keeps its name, so that grants are checked against all names.
fn datasources(
    section: Section<'_>,
    store_url: Option<&str>,
    secrets: &Secrets,
) -> BTreeMap<String, Option<DatasourceConfig>> {
    let file = |url: &str| SqliteFile::of(url).and_then(Result::ok);
    let own_file = store_url.and_then(file);
    let mut datasources = BTreeMap::new();
    for (name, mut section) in section.sections() {
        if let Err(e) = name.parse::<domain::id::Name>() {
            let what = format!("{name:?} is not a datasource's name: {}", names::name_words(&e));
            section.blame("", what, NAME_REMEDY);
        }
        if !section.has("url") {
            section.blame(
                "url",
                "the datasource has no address",
                "add url = \"postgres://…\" or \"sqlite://…\"",
            );
        }
        let found = section.text("url");
        let url = found.as_ref().and_then(|found| database(&section, found));
        if let (Some(found), Some(url)) = (&found, &url)
            && let (Some(own), Some(file)) = (&own_file, file(url))
            && file.is_same(own)
        {
            let what = "this is the store's own file: a plugin could change the host's records";
            section.blame_found(found, what, "use a file of its own for business data");
        }
        let password = password(&mut section, url.as_deref(), secrets);
        section.finish();
        datasources.insert(name, url.map(|url| DatasourceConfig { url, password }));
    }
    datasources
}
