//! A guest's text holds what is special about it, as fields of a core module; what it lacks of a plugin is added here.
//!
//! `@process` and the like in it stand for the exports of `tidemill:job/job`. Comments that begin with `;; describe:` and
//! `;; world:` name what it says of itself, and its world.

use anyhow::{Context, Result};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::ours;

/// Beside the plugin's world: what Rust's library would import, and a resource of the guest's own.
const WORLDS: &str = r#"
package zoo:guest;
interface things { resource thing {} }
world plain { include tidemill:job/plugin@0.1.0; import wasi:clocks/monotonic-clock@0.2.12; }
world owner { include plain; export things; }
world unknown { include plain; import elsewhere; }
interface elsewhere { call: func(); }
"#;

const DESCRIBE: &str = r#"{"name":"guest","version":"1"}"#;

/// 0 to 63 are zeros: read as the result of `process`, they say that it is resolved.
const TYPES: &str = r#"
(type $describe (func (result i32)))
(type $discover (func (param i32 i32 i32 i32 i32 i32) (result i32)))
(type $process (func (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(type $realloc (func (param i32 i32 i32 i32) (result i32)))
"#;

/// Each under what a text holds that has its own.
const DEFAULTS: [(&str, &str); 5] = [
    ("(export \"memory\")", "(memory (export \"memory\") 2)"),
    ("\"@describe\"", "(func (export \"@describe\") (type $describe) i32.const 64)"),
    ("\"@discover\"", "(func (export \"@discover\") (type $discover) i32.const 0)"),
    ("\"@process\"", "(func (export \"@process\") (type $process) i32.const 0)"),
    (
        "\"cabi_realloc\"",
        "(global $heap (mut i32) (i32.const 65536))
        (func (export \"cabi_realloc\") (type $realloc)
            (global.set $heap (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
            global.get $heap
            (global.set $heap (i32.add (global.get $heap) (local.get 3))))",
    ),
];

pub fn component(text: &str) -> Result<Vec<u8>> {
    let mut module = wat::parse_str(whole(text)).context("its text is not valid")?;
    let (resolve, package) = worlds()?;
    let world = resolve.select_world(&[package], Some(told(text, "world").unwrap_or("plain")))?;
    let encoding = match told(text, "strings") {
        Some("utf16") => StringEncoding::UTF16,
        _ => StringEncoding::UTF8,
    };
    embed_component_metadata(&mut module, &resolve, world, encoding, false)?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}

/// The contract of the host, and our worlds around it.
pub fn worlds() -> Result<(Resolve, wit_parser::PackageId)> {
    let mut resolve = Resolve::default();
    resolve.push_dir(ours("../../../wit"))?;
    let package = resolve.push_str("zoo.wit", WORLDS)?;
    Ok((resolve, package))
}

fn told<'a>(text: &'a str, what: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(";; ")?.strip_prefix(what))?;
    Some(line.strip_prefix(':')?.trim())
}

fn whole(text: &str) -> String {
    let describe = told(text, "describe").unwrap_or(DESCRIBE);
    let mut module = format!("(module {TYPES}\n{text}\n");
    for (mark, default) in DEFAULTS {
        if !text.contains(mark) {
            module.push_str(default);
        }
    }
    let (bytes, length) = encoded(describe, told(text, "strings") == Some("utf16"));
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    module.push_str(&format!(
        "(data (i32.const 64) \"\\00\\04\\00\\00{}\")(data (i32.const 1024) \"{}\"))",
        hex(&length),
        hex(&bytes)
    ));
    module.replace("\"@", "\"tidemill:job/job@0.1.0#")
}

/// Its bytes, and its length as the encoding counts it.
fn encoded(text: &str, utf16: bool) -> (Vec<u8>, usize) {
    if utf16 {
        let units: Vec<u16> = text.encode_utf16().collect();
        return (units.iter().flat_map(|unit| unit.to_le_bytes()).collect(), units.len());
    }
    (text.as_bytes().to_vec(), text.len())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}
