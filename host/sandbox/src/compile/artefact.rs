//! Compiled code: made of a component, and taken into this process. The only place of the host with unsafe code.
#![allow(unsafe_code, reason = "compiled code cannot be taken over otherwise; `load` says what it rests on")]

use wasmtime::Engine;
use wasmtime::component::Component;

pub fn make(engine: &Engine, component: &[u8]) -> Result<Vec<u8>, String> {
    engine.precompile_component(component).map_err(|e| format!("it is not a valid component: {e:#}"))
}

/// Whoever calls this vouches that `make` made these bytes: they come from the process that this host started for that, or
/// from its cache, with the seal of its key. Files of the plugins folder never come here: they begin as components do.
pub fn load(engine: &Engine, artefact: &[u8]) -> Result<Component, String> {
    // SAFETY: the bytes are what wasmtime's compiler made, as the caller vouches. Those of another version of
    // wasmtime or of other settings are refused by wasmtime.
    let component = unsafe { Component::deserialize(engine, artefact) };
    component.map_err(|e| format!("this host cannot load it: {e:#}"))
}
