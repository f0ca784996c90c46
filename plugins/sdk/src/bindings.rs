//! Generated from the contract in `wit/`. Public only because [`crate::export_job!`] has to access it.
#![allow(missing_docs)]

wit_bindgen::generate!({
    path: "../../wit",
    world: "tidemill:job/plugin",
    generate_all,
    additional_derives: [PartialEq],
    additional_derives_ignore: ["stream-error"],
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "tidemill_sdk::bindings",
});
