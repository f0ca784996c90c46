//! From a component's bytes to code of this machine. Compilers are large and components are strangers, so it is done
//! by another process, which can be stopped, and once for all starts of the host.

mod artefact;
pub mod cache;
mod child;
mod functions;
pub mod scan;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use domain::id::{Digest, PluginName};
use tokio::sync::Semaphore;
use tokio::task::JoinError;
use wasmtime::Engine;
use wasmtime::component::Component;

use self::cache::{Cache, Kept};
use crate::folder::PluginFile;

#[cfg(test)]
pub use self::artefact::make;
use self::child::compiler_fault;
pub use self::child::{Bounds, Child, compile_stdin};
pub use self::functions::Functions;

/// By whom components are compiled.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// By this process, however long it takes and whatever it needs: for components that are known.
    InProcess,
    Child(Child),
}

/// What a compiler makes of a component.
pub struct Compiled {
    pub artefact: Vec<u8>,
    /// For the compilation of the version after; none if this process was the compiler.
    pub functions: Vec<u8>,
}

/// Why there is no code of a component.
#[derive(Debug)]
pub struct Refusal {
    pub reason: String,
    /// It is not the component's fault, and may go better another time.
    pub passing: bool,
}

impl Refusal {
    fn passing(reason: String) -> Refusal {
        Refusal { reason, passing: true }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Refusal {
        Refusal { reason, passing: false }
    }
}

/// Where components are compiled, or are found compiled.
pub struct Foundry {
    engine: Engine,
    compiler: Compiler,
    cache: Option<Arc<Cache>>,
    permits: Semaphore,
}

impl Foundry {
    /// Without a data folder, or if it cannot be written to, each start compiles anew.
    pub fn new(engine: Engine, compiler: Compiler, data_dir: Option<&Path>, compiles_max: usize) -> Foundry {
        let open = |dir: &Path| {
            Cache::open(dir, &engine)
                .inspect_err(|error| {
                    let folder = dir.display();
                    tracing::warn!(%folder, %error, "no compiled plugins are kept: each start compiles them anew");
                })
                .ok()
        };
        let cache = data_dir.and_then(open).map(Arc::new);
        Foundry { engine, compiler, cache, permits: Semaphore::new(compiles_max.max(1)) }
    }

    pub async fn component(&self, file: PluginFile) -> Result<Component, Refusal> {
        let began = Instant::now();
        let (plugin, digest) = (file.plugin.clone(), file.digest);
        let told = |from: &str| {
            let ms = began.elapsed().as_millis();
            tracing::debug!(%plugin, digest = %digest.short(), ms, "{from}");
        };
        if let Some(component) = self.kept(&plugin, digest).await {
            told("found compiled");
            return Ok(component);
        }
        // Never closed, so there is always a permit in the end.
        let permit = self.permits.acquire().await;
        let compiled = self.compile(file).await?;
        drop(permit);
        let component = self.take_over(plugin.clone(), digest, compiled).await?;
        told("compiled");
        Ok(component)
    }

    /// What this host compiled before, unchanged.
    async fn kept(&self, plugin: &PluginName, digest: Digest) -> Option<Component> {
        let (engine, cache) = (self.engine.clone(), self.cache.clone()?);
        let load = move || {
            let artefact = cache.get(Kept::Code(digest)).ok_or("it was not compiled before")?;
            artefact::load(&engine, &artefact)
        };
        in_background(plugin, load).await.ok()
    }

    async fn compile(&self, PluginFile { plugin, bytes, .. }: PluginFile) -> Result<Compiled, Refusal> {
        let bytes = in_background(&plugin, move || scan::check(&bytes).map(|()| bytes)).await?;
        match &self.compiler {
            Compiler::Child(child) => {
                let cache = self.cache.clone();
                let name = plugin.clone();
                let known = move || Ok(cache.and_then(|cache| cache.get(Kept::Functions(&name))));
                let functions = in_background(&plugin, known).await?.unwrap_or_default();
                child.compile(&plugin, bytes, functions).await
            }
            Compiler::InProcess => {
                let engine = self.engine.clone();
                let artefact = in_background(&plugin, move || artefact::make(&engine, &bytes)).await?;
                Ok(Compiled { artefact, functions: Vec::new() })
            }
        }
    }

    async fn take_over(
        &self,
        plugin: PluginName,
        digest: Digest,
        Compiled { artefact, functions }: Compiled,
    ) -> Result<Component, Refusal> {
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let name = plugin.clone();
        let load = move || {
            let component = artefact::load(&engine, &artefact)?;
            let keep = |cache: Arc<Cache>| {
                cache.put(Kept::Code(digest), artefact)?;
                if functions.is_empty() { Ok(()) } else { cache.put(Kept::Functions(&plugin), functions) }
            };
            if let Some(Err(error)) = cache.map(keep) {
                tracing::warn!(%error, "what was compiled is not kept: it is compiled anew another time");
            }
            Ok(component)
        };
        // It was just compiled for this very engine: what is missing is memory of this host.
        in_background(&name, load).await.map_err(Refusal::passing)
    }
}

async fn in_background<T: Send + 'static>(
    plugin: &PluginName,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(compiler_fault(plugin, &panic_message(error))))
}

fn panic_message(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(message), _) => (*message).to_owned(),
            (None, Some(message)) => message.clone(),
            (None, None) => "no message".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}
