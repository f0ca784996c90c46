//! Native code: compiles a component, and loads the result into this process. The only unsafe code of the
//! host.
#![allow(unsafe_code, reason = "compiled code cannot be taken over otherwise; `load` says what it rests on")]

use wasmtime::Engine;
use wasmtime::component::Component;

pub fn make(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, String> {
    engine.precompile_component(component).map_err(|e| format!("it is not a valid component: {e:#}"))
}

/// The caller guarantees that `make` made these bytes. They come from the compiler process that this host
/// started, or from the host's cache, sealed with its key. Files of the plugins folder never reach this
/// function, because they start with the header of a component.
pub fn load(engine: &Engine, artefact: &[u8]) -> Result<Component, String> {
    // SAFETY: the bytes are the output of wasmtime's compiler, as the caller guarantees. wasmtime refuses the
    // output of another version or of other settings.
    let component = unsafe { Component::deserialize(engine, artefact) };
    component.map_err(|e| format!("this host cannot load it: {e:#}"))
}
