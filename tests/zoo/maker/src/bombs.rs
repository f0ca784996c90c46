//! Files that attack the host before any of their code runs.

use std::fmt::Write;

use anyhow::Result;

use crate::guest;

const MIB: usize = 1 << 20;

/// The first bytes of a component, and of a core module.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
const CUSTOM_SECTION: u8 = 0;
const COMPONENT_SECTION: u8 = 4;

pub fn all() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let mut all = damaged()?;
    all.extend(too_many()?);
    all.extend(hard_to_compile()?);
    Ok(all)
}

/// Files that are not components of this host's contract.
fn damaged() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let good = guest::component("")?;
    let half = good[..good.len() / 2].to_vec();
    let mut flipped = good.clone();
    flipped[good.len() / 3] ^= 0x55;
    let sql = std::str::from_utf8(b"tidemill:job/sql@0.1.0")?;
    let wants_sql =
        guest::component(&format!("(import \"{sql}\" \"query\" (func (param i32 i32 i32 i32 i32)))"))?;
    let json = format!("{}{}", r#"{"a":"#.repeat(10_000), format!("1{}", "}".repeat(10_000)));
    Ok(vec![
        ("nested-json", guest::component(&format!("(memory (export \"memory\") 4)\n;; describe: {json}\n"))?),
        ("empty-file", Vec::new()),
        ("half-a-file", half),
        ("flipped-bits", flipped),
        ("text-file", b"(component)".to_vec()),
        ("core-module", CORE_MODULE.to_vec()),
        ("machine-code", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".repeat(64)),
        ("newer-contract", renamed(&good, "tidemill:job/job@0.1.0", "tidemill:job/job@0.9.0")),
        ("newer-import", renamed(&wants_sql, sql, "tidemill:job/sql@0.9.0")),
    ])
}

/// Replaces a name in the bytes by a name of the same length.
fn renamed(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut renamed = bytes.to_vec();
    for at in 0..bytes.len().saturating_sub(from.len()) {
        if bytes[at..].starts_with(from.as_bytes()) {
            renamed[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    renamed
}

/// More of one kind of part than an attempt may have.
fn too_many() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let of = |count: usize, part: &str| wat::parse_str(format!("(component {})", instances(count, part)));
    let segments = "(data (i32.const 0) \"\")".repeat(100_001);
    let nested = (0..1_000)
        .fold(COMPONENT.to_vec(), |inner, _| section(COMPONENT.to_vec(), COMPONENT_SECTION, &inner));
    Ok(vec![
        ("many-memories", of(20, "(memory 1)")?),
        ("many-tables", of(40, "(table 1 funcref)")?),
        ("many-instances", of(1_000, "")?),
        ("sum-of-memories", with(&instances(6, "(memory 200)"))?),
        ("sum-of-tables", with(&instances(14, "(table 20000 funcref)"))?),
        ("large-table", with(&instances(1, "(table 9000000 funcref)"))?),
        ("many-segments", wat::parse_str(format!("(component (core module (memory 1) {segments}))"))?),
        ("nested-components", nested),
        ("types-that-double", wat::parse_str(format!("(component {})", doubling_types()))?),
        ("types-that-nest", wat::parse_str(format!("(component {})", nesting_types()))?),
        ("too-large", section(COMPONENT.to_vec(), CUSTOM_SECTION, &custom(33 * MIB))),
        ("custom-section", section(guest::component("")?, CUSTOM_SECTION, &custom(15 * MIB))),
    ])
}

fn instances(count: usize, part: &str) -> String {
    let mut text = String::new();
    for n in 0..count {
        let _ = write!(text, "(core module $m{n} {part}) (core instance (instantiate $m{n}))");
    }
    text
}

/// A valid guest with additional parts.
fn with(parts: &str) -> Result<Vec<u8>> {
    let text = wasmprinter::print_bytes(guest::component("")?)?;
    let end = text.rfind(')').unwrap_or_default();
    Ok(wat::parse_str(format!("{}{parts})", &text[..end]))?)
}

fn doubling_types() -> String {
    let mut text = "(type $t0 (tuple u8 u8))".to_owned();
    for n in 1..60 {
        let _ = write!(text, "(type $t{n} (tuple $t{m} $t{m}))", m = n - 1);
    }
    text
}

fn nesting_types() -> String {
    let mut text = "(type $t0 (list u8))".to_owned();
    for n in 1..5_000 {
        let _ = write!(text, "(type $t{n} (list $t{m}))", m = n - 1);
    }
    text
}

/// Appends a section.
fn section(mut component: Vec<u8>, kind: u8, content: &[u8]) -> Vec<u8> {
    component.push(kind);
    leb(&mut component, content.len());
    component.extend(content);
    component
}

/// The content of a custom section: a name, and many zeros.
fn custom(bytes: usize) -> Vec<u8> {
    let mut content = vec![1, b'x'];
    content.resize(bytes, 0);
    content
}

fn leb(out: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        out.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or_default());
}

/// Valid components that take long to compile.
fn hard_to_compile() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let function =
        |body: &str| guest::component(&format!("(func (param i32) (result i32) {body} local.get 0)"));
    let steps = "local.get 0 i32.const 77777 i32.mul i32.const 3 i32.rotl local.set 0 ".repeat(87_000);
    let locals = format!(
        "(local {}) {}",
        "i64 ".repeat(40_000),
        (1..20_000).fold(String::new(), |text, n| text + &format!("local.get {n} local.set {} ", 40_000 - n))
    );
    let blocks = 5_000;
    let targets: String = (0..blocks - 30).fold(String::new(), |text, n| text + &format!("{n} "));
    let branches = format!(
        "{} {} local.get 0 br_table {targets} {}",
        "block ".repeat(blocks),
        format!("local.get 0 br_table {targets} end ").repeat(20),
        "end ".repeat(blocks - 20)
    );
    let functions = "(func (param i32) (result i32) local.get 0 i32.const 7 i32.mul)".repeat(60_000);
    Ok(vec![
        ("long-function", function(&steps)?),
        ("many-locals", function(&locals)?),
        ("many-branches", function(&branches)?),
        ("many-functions", guest::component(&functions)?),
    ])
}
