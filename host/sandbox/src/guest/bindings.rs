//! Rust bindings of the contract, generated from `wit/`. They are private to this crate.

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

use crate::guest::state::GuestState;

mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "tidemill:job/plugin",
        imports: {
            "tidemill:job/sql": async,
            "tidemill:job/events": async,
            "tidemill:job/alerts": async,
            "tidemill:job/audit": async,
            "tidemill:job/metrics": async,
            "tidemill:job/items": async,
            "tidemill:job/locks": async,
            "tidemill:job/kv": async,
            "wasi:keyvalue/store": async | trappable,
        },
        exports: { default: async },
        with: {
            "wasi:keyvalue/store.bucket": crate::guest::capabilities::keyvalue::Bucket,
            "wasi:http": wasmtime_wasi_http::p2::bindings::http,
            "wasi:io": wasmtime_wasi::p2::bindings::io,
            "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
        },
    });
}

pub use generated::tidemill::job::{alerts, audit, events, items, kv, locks, metrics, sql, types};
pub use generated::wasi::config::store as config;
pub use generated::wasi::keyvalue::store as keyvalue;
pub use generated::wasi::logging::logging;
pub use generated::{Plugin, PluginPre};

/// A linker with everything that a guest can import. Missing grants are refused when a version is checked.
pub fn linker(engine: &Engine) -> wasmtime::Result<Linker<GuestState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    // Our interfaces are added one by one: `Plugin::add_to_linker` would require `GuestState` to implement WASI's
    // interfaces too.
    macro_rules! add {
        ($($interface:ident),*) => { $(
            $interface::add_to_linker::<_, HasSelf<GuestState>>(&mut linker, |state| state)?;
        )* };
    }
    add!(types, sql, events, alerts, audit, metrics, items, locks, kv, config, keyvalue, logging);
    Ok(linker)
}
