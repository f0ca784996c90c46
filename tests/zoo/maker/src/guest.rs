//! A guest's text holds only its special parts, as fields of a core module; this file adds the rest of a
//! plugin.
//!
//! `@process` and similar names in the text are replaced by exports of `tidemill:job/job`.
//! A comment `;; describe:` holds the guest's descriptor, a comment `;; world:` the name of its world.

use anyhow::{Context, Result};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::ours;

/// Besides the plugin's world: an import of Rust's standard library, and a resource that the guest exports.
const WORLDS: &str = r#"
package zoo:guest;
interface things { resource thing {} }
world plain { include tidemill:job/plugin@0.1.0; import wasi:clocks/monotonic-clock@0.2.12; }
world owner { include plain; export things; }
world unknown { include plain; import elsewhere; }
interface elsewhere { call: func(); }
"#;

const DESCRIBE: &str = r#"{"name":"guest","version":"1"}"#;

/// Bytes 0 to 63 are zeros: as the result of `process`, they mean `resolved`.
const TYPES: &str = r#"
(type $describe (func (result i32)))
(type $discover (func (param i32 i32 i32 i32 i32 i32) (result i32)))
(type $process (func (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(type $realloc (func (param i32 i32 i32 i32) (result i32)))
"#;

/// Each default is added unless the guest's text contains the mark before it.
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
    let world = resolve.select_world(&[package], Some(reported(text, "world").unwrap_or("plain")))?;
    let encoding = match reported(text, "strings") {
        Some("utf16") => StringEncoding::UTF16,
        _ => StringEncoding::UTF8,
    };
    embed_component_metadata(&mut module, &resolve, world, encoding, false)?;
    ComponentEncoder::default().validate(true).module(&module)?.encode()
}

/// The host's contract, and the zoo's worlds around it.
pub fn worlds() -> Result<(Resolve, wit_parser::PackageId)> {
    let mut resolve = Resolve::default();
    resolve.push_dir(ours("../../../wit"))?;
    let package = resolve.push_str("zoo.wit", WORLDS)?;
    Ok((resolve, package))
}

fn reported<'a>(text: &'a str, what: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(";; ")?.strip_prefix(what))?;
    Some(line.strip_prefix(':')?.trim())
}

fn whole(text: &str) -> String {
    let describe = reported(text, "describe").unwrap_or(DESCRIBE);
    let mut module = format!("(module {TYPES}\n{text}\n");
    for (mark, default) in DEFAULTS {
        if !text.contains(mark) {
            module.push_str(default);
        }
    }
    let (bytes, length) = encoded(describe, reported(text, "strings") == Some("utf16"));
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    module.push_str(&format!(
        "(data (i32.const 64) \"\\00\\04\\00\\00{}\")(data (i32.const 1024) \"{}\"))",
        hex(&length),
        hex(&bytes)
    ));
    module.replace("\"@", "\"tidemill:job/job@0.1.0#")
}

/// The encoded bytes, and the length in units of the encoding.
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
