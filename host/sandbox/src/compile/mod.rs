//! From a component's bytes to code of this machine. Compilers are large and components are strangers, so it is done
//! by another process, which can be stopped, and once for all starts of the host.

mod artefact;
pub mod cache;
mod child;
pub mod scan;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Semaphore;
use wasmtime::Engine;
use wasmtime::component::Component;

use self::cache::Cache;
use crate::folder::PluginFile;

pub use self::child::{Bounds, Child, compile_stdin};

/// By whom components are compiled.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// By this process, however long it takes and whatever it needs: for components that are known.
    InProcess,
    Child(Child),
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
        if let Some(component) = self.kept(&file).await {
            told("found compiled");
            return Ok(component);
        }
        // Never closed, so there is always a permit in the end.
        let permit = self.permits.acquire().await;
        let artefact = self.compile(file.bytes).await?;
        drop(permit);
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let component = in_background(move || {
            let component = artefact::load(&engine, &artefact)?;
            if let Some(Err(error)) = cache.map(|cache| cache.put(digest, artefact)) {
                tracing::warn!(%error, "a compiled plugin is not kept: the next start compiles it anew");
            }
            Ok(component)
        });
        let component = component.await?;
        told("compiled");
        Ok(component)
    }

    /// What this host compiled before, unchanged.
    async fn kept(&self, file: &PluginFile) -> Option<Component> {
        let (engine, cache, digest) = (self.engine.clone(), self.cache.clone()?, file.digest);
        let load = move || {
            let artefact = cache.get(digest).ok_or("it was not compiled before")?;
            artefact::load(&engine, &artefact)
        };
        in_background(load).await.ok()
    }

    async fn compile(&self, bytes: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        let bytes = in_background(move || scan::check(&bytes).map(|()| bytes)).await?;
        match &self.compiler {
            Compiler::Child(child) => child.compile(bytes).await,
            Compiler::InProcess => {
                let engine = self.engine.clone();
                Ok(in_background(move || artefact::make(&engine, &bytes)).await?)
            }
        }
    }
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| Err(format!("the compiler failed: {panic}")))
}
