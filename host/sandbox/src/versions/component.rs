//! From a file's bytes to a callable version: compiled, checked against the contract, described.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use domain::failure::{ErrorInfo, Failure};
use domain::id::PluginName;
use domain::job::JobSpec;
use domain::limits::{Limits, MIB};
use domain::plugin::{Describe, Statement};
use serde_json::{Map, Value};
use wasmtime::component::{Component, Linker};

use crate::config::SandboxConfig;
use crate::guest::attempt::{CallRequest, CallSlots, Reuse};
use crate::guest::bindings::PluginPre;
use crate::guest::convert::shown;
use crate::guest::log::LogSource;
use crate::guest::state::GuestState;
use crate::versions::compile::{ComponentCompiler, Refusal};
use crate::versions::contract::{self, GRANT_OF_INTERFACE, NAMED_BY_DESCRIBE};
use crate::versions::folder::PluginFile;
use crate::versions::version::Version;

const COMPONENT_PREAMBLE: [u8; 8] = *b"\0asm\x0d\0\x01\0";
const CORE_MODULE_PREAMBLE: [u8; 8] = *b"\0asm\x01\0\0\0";
const DESCRIBE_BYTES_MAX: usize = MIB;
const VERSION_BYTES_MAX: usize = 128;

/// Checks each statement of a version before the version is used: whether its database accepts it.
#[async_trait]
pub trait StatementCheck: Send + Sync {
    async fn check(&self, statement: &Statement) -> Result<(), String>;
}

pub struct Loader {
    config: SandboxConfig,
    room: Arc<CallSlots>,
    linker: Arc<Linker<GuestState>>,
    component_compiler: ComponentCompiler,
}

impl Loader {
    pub fn new(config: SandboxConfig, room: Arc<CallSlots>, linker: Arc<Linker<GuestState>>) -> Loader {
        let (engine, compiler) = (room.engine().clone(), config.compiler.clone());
        let component_compiler =
            ComponentCompiler::new(engine, compiler, config.data_dir.as_deref(), config.compiles_max);
        Loader { config, room, linker, component_compiler }
    }

    /// The version, or why it was refused.
    pub async fn load(&self, file: PluginFile) -> Result<Version, Refusal> {
        check_preamble(&file.bytes)?;
        let (plugin, digest) = (file.plugin.clone(), file.digest);
        let size_bytes = file.bytes.len() as u64;
        let component = self.component_compiler.component(file).await?;
        let imports = check_contract(&component)?;
        let pre = self.linker.instantiate_pre(&component).and_then(PluginPre::new);
        let pre = pre.map_err(|e| format!("it does not fit this host: {e:#}"))?;
        let describe = self.describe(&plugin, &pre).await?;
        let config_schema = match &describe.config {
            Some(schema) => Some(
                jsonschema::validator_for(schema)
                    .map_err(|e| format!("its config schema is not valid: {e}"))?,
            ),
            None => None,
        };
        let describe = Arc::new(describe);
        Ok(Version { plugin, digest, size_bytes, describe, pre, imports, config_schema })
    }

    /// Calls `describe` without any grant.
    async fn describe(&self, plugin: &PluginName, pre: &PluginPre<GuestState>) -> Result<Describe, Refusal> {
        let limits = Limits {
            cpu_time: self.config.load.describe_time,
            wall_time: self.config.load.describe_wall_time(),
            hostcall_bytes: DESCRIBE_BYTES_MAX,
            ..Limits::DEFAULT
        };
        let log_source = LogSource { job: String::new(), subject: format!("describe() of {plugin}") };
        let reuse = Reuse::Never;
        let request = CallRequest { plugin: pre, limits: &limits, granted: None, log_source, reuse };
        let ran = self
            .room
            .call(request, |plugin, store| {
                Box::pin(async move { plugin.tidemill_job_job().call_describe(store).await })
            })
            .await;
        let text = ran.result.map_err(|failure| {
            let why = failure.error().map_or(String::new(), |e| self.why_no_description(e));
            let reason = format!("describe() failed: {why}");
            Refusal { reason, temporary: matches!(failure, Failure::Host(_)) }
        })?;
        let describe = Describe::parse(&text)?;
        Ok(Describe {
            version: shown(&describe.version, VERSION_BYTES_MAX),
            summary: shown(&describe.summary, limits.text_bytes),
            ..describe
        })
    }

    /// The limits of a job have no effect on `describe`, so the messages must not name them.
    fn why_no_description(&self, ErrorInfo { code, message }: &ErrorInfo) -> String {
        let time = self.config.load.describe_time;
        let limits = Limits::DEFAULT;
        match code.as_str() {
            "cpu-limit" => {
                format!(
                    "{code}: it computed for more than {time:?}; look for an endless loop, or raise plugins.describe_time"
                )
            }
            "wall-timeout" => format!(
                "{code}: it took longer than {:?}, waiting included; it must not wait, or raise plugins.describe_time",
                self.config.load.describe_wall_time()
            ),
            "memory-limit" => {
                format!("{code}: it wanted more than {} bytes of memory, which is fixed", limits.memory_bytes)
            }
            "hostcall-limit" => {
                format!("{code}: it handed over more than {DESCRIBE_BYTES_MAX} bytes at once, which is fixed")
            }
            "handle-limit" => {
                format!("{code}: it holds more than {} handles, which is fixed", limits.handles)
            }
            _ => format!("{code}: {message}"),
        }
    }
}

fn check_preamble(bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(&COMPONENT_PREAMBLE) {
        return Ok(());
    }
    Err(match bytes.starts_with(&CORE_MODULE_PREAMBLE) {
        true => "it is a core module, not a component: build it for wasm32-wasip2",
        false => "it is not a WebAssembly component: its first 8 bytes are wrong",
    }
    .to_owned())
}

/// Returns the names of the imports.
fn check_contract(component: &Component) -> Result<Vec<String>, String> {
    let (component_type, engine) = (component.component_type(), component.engine());
    contract::check_exports(component_type.exports(engine).map(|(name, _)| name))?;
    let mut imports = Vec::new();
    for (name, _) in component_type.imports(engine) {
        contract::check_import(name)?;
        imports.push(name.to_owned());
    }
    Ok(imports)
}

impl Version {
    /// Why this version cannot be used by `job`, and the remedy.
    pub fn refused_by(&self, job: &JobSpec) -> Option<String> {
        let name = &job.name;
        if let Some(why) = self.lacks_grant(job) {
            return Some(format!("job {name}: {why}; add it under [jobs.{name}.grants]"));
        }
        let why = self.refuses_config(&job.config)?;
        Some(format!("job {name}: config {why}; correct it under [jobs.{name}.config]"))
    }

    fn lacks_grant(&self, job: &JobSpec) -> Option<String> {
        let asked = self.describe.asks_too_much(job);
        let lacking = GRANT_OF_INTERFACE.iter().find_map(|(interface, is_granted, reason)| {
            let import = self.imports.iter().find(|import| contract::interface(import) == *interface)?;
            let named = asked.as_deref().filter(|_| NAMED_BY_DESCRIBE.contains(interface));
            (!is_granted(&job.grants)).then(|| format!("import {import}: {}", named.unwrap_or(reason)))
        });
        lacking.or(asked)
    }

    fn refuses_config(&self, config: &BTreeMap<String, String>) -> Option<String> {
        refused_config(self.config_schema.as_ref()?, self.describe.config.as_ref()?, config)
    }

    /// Why a database refuses one of the statements.
    pub async fn refused_statement(&self, check: &dyn StatementCheck) -> Option<String> {
        for (name, statement) in &self.describe.statements {
            if let Err(why) = check.check(statement).await {
                return Some(format!("statement {name:?}: {why}"));
            }
        }
        None
    }
}

pub fn refused_config(
    validator: &jsonschema::Validator,
    schema: &Value,
    config: &BTreeMap<String, String>,
) -> Option<String> {
    let properties = schema.get("properties");
    let typed = config.iter().map(|(key, text)| {
        let schema = properties.and_then(|properties| properties.get(key));
        (key.clone(), typed(text, schema))
    });
    let document = Value::Object(typed.collect::<Map<_, _>>());
    let error = validator.iter_errors(&document).next()?;
    Some(shown(&format!("{}: {error}", error.instance_path()), Limits::DEFAULT.text_bytes))
}

/// Converts a config value, which is text, to the type that the schema expects.
fn typed(text: &str, schema: Option<&Value>) -> Value {
    let wants = |name: &str| match schema.and_then(|schema| schema.get("type")) {
        Some(Value::String(wanted)) => wanted == name,
        Some(Value::Array(any)) => any.iter().any(|wanted| wanted == name),
        _ => false,
    };
    if (wants("integer") || wants("number"))
        && let Ok(integer) = text.parse::<i64>()
    {
        return Value::from(integer);
    }
    if wants("number")
        && let Ok(number) = text.parse::<f64>()
    {
        return Value::from(number);
    }
    if wants("boolean")
        && let Ok(boolean) = text.parse::<bool>()
    {
        return Value::from(boolean);
    }
    Value::from(text)
}
