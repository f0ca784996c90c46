//! Compiles components to native code. Compilers are large and components are untrusted, so a separate
//! process does it, which can be stopped. The result is kept over restarts of the host.

mod artefact;
pub mod cache;
mod child;
mod compiled;
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
use crate::versions::folder::PluginFile;

#[cfg(test)]
pub use self::artefact::make;
use self::child::compiler_fault;
pub use self::child::{Bounds, Child, compile_stdin};
use self::compiled::Compiled;
pub use self::compiled::Refusal;
#[cfg(test)]
pub use self::functions::Functions;

/// The process that compiles components.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// This process, without limits of time and memory: for trusted components.
    InProcess,
    Child(Child),
}

/// Compiles components, or loads them from the cache.
pub struct ComponentCompiler {
    engine: Engine,
    compiler: Compiler,
    cache: Option<Arc<Cache>>,
    permits: Semaphore,
}

impl ComponentCompiler {
    /// Without a writable data folder, each start compiles all components again.
    pub fn new(
        engine: Engine,
        compiler: Compiler,
        data_dir: Option<&Path>,
        compiles_max: usize,
    ) -> ComponentCompiler {
        let open = |dir: &Path| {
            Cache::open(dir, &engine)
                .inspect_err(|error| {
                    let folder = dir.display();
                    tracing::warn!(%folder, %error, "compiled plugins cannot be kept: each start compiles them again");
                })
                .ok()
        };
        let cache = data_dir.and_then(open).map(Arc::new);
        ComponentCompiler { engine, compiler, cache, permits: Semaphore::new(compiles_max.max(1)) }
    }

    pub async fn component(&self, file: PluginFile) -> Result<Component, Refusal> {
        let began = Instant::now();
        let (plugin, digest) = (file.plugin.clone(), file.digest);
        let log_result = |from: &str| {
            let ms = began.elapsed().as_millis();
            tracing::debug!(%plugin, digest = %digest.short(), ms, "{from}");
        };
        if let Some(component) = self.kept(&plugin, digest).await {
            log_result("found compiled");
            return Ok(component);
        }
        // The semaphore is never closed, so `acquire` always succeeds.
        let permit = self.permits.acquire().await;
        let compiled = self.compile(file).await?;
        drop(permit);
        let component = self.take_over(plugin.clone(), digest, compiled).await?;
        log_result("compiled");
        Ok(component)
    }

    /// The code that this host compiled before, if it is unchanged.
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
                tracing::warn!(%error, "a compiled plugin could not be kept: the next start compiles it again");
            }
            Ok(component)
        };
        // It was just compiled for this engine, so the likely cause is a lack of memory on this host.
        in_background(&name, load).await.map_err(Refusal::temporary)
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
