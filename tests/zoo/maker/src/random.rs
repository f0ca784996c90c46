//! Random components: plugins with random code, other components and modules, and valid ones with flipped
//! bits.

use anyhow::Result;
use arbitrary::Unstructured;
use wasm_smith::{Component, Config, Module};
use wit_component::{ComponentEncoder, StringEncoding, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, Resolve, WorldId};

use crate::guest;

/// The number of random bytes per component; more only takes longer to compile.
const ENTROPY_BYTES: usize = 4 << 10;
const DESCRIBE: &[u8] = br#"{"name":"r","version":"1"}"#;

/// Allocates a page for every request.
const REALLOC: &str = "(func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32)
    (i32.shl (memory.grow (i32.const 1)) (i32.const 16)))";

/// Produces the same components for the same seed.
pub struct Random {
    state: u64,
    resolve: Resolve,
    world: WorldId,
    /// Modules with the contract's imports and exports, except for functions that are added later: `describe`
    /// (both), and `cabi_realloc`, which allocates arguments (`tame` only).
    wild: Vec<u8>,
    tame: Vec<u8>,
    good: Vec<u8>,
}

impl Random {
    pub fn new(seed: u64) -> Result<Random> {
        let (resolve, package) = guest::worlds()?;
        let world = resolve.select_world(&[package], Some("plain"))?;
        let dummy = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
        let text = wasmprinter::print_bytes(dummy)?;
        let without = |marks: &[&str]| {
            let rest = text.lines().filter(|line| !marks.iter().any(|mark| line.contains(mark)));
            wat::parse_str(rest.collect::<Vec<_>>().join("\n"))
        };
        let wild = without(&["job@0.1.0#describe\""])?;
        let tame = without(&["job@0.1.0#describe\"", "\"cabi_realloc\""])?;
        Ok(Random { state: seed | 1, resolve, world, wild, tame, good: guest::component("")? })
    }

    pub fn component(&mut self) -> Result<Vec<u8>> {
        match self.next() % 10 {
            0 => Ok(Component::new(
                Config { reference_types_enabled: true, ..small() },
                &mut Unstructured::new(&self.entropy()),
            )?
            .to_bytes()),
            1 => Ok(Module::new(small(), &mut Unstructured::new(&self.entropy()))?.to_bytes()),
            2 => self.damaged(),
            3 => self.plugin(true),
            _ => self.plugin(false),
        }
    }

    /// A plugin with the contract's imports and exports and random code. Calls of a tame one reach that code,
    /// because it has a working `cabi_realloc` and no start function.
    fn plugin(&mut self, wild: bool) -> Result<Vec<u8>> {
        let config = match wild {
            true => Config { module_shape: Some(self.wild.clone()), max_data_segments: 4, ..small() },
            false => Config {
                module_shape: Some(self.tame.clone()),
                max_element_segments: 0,
                allow_start_export: false,
                ..small()
            },
        };
        let module = Module::new(config, &mut Unstructured::new(&self.entropy()))?;
        let text = wasmprinter::print_bytes(module.to_bytes())?;
        let end = text.rfind(')').unwrap_or_default();
        let mut module = wat::parse_str(format!(
            "{}{})",
            &text[..end],
            if wild { describe() } else { describe() + REALLOC }
        ))?;
        embed_component_metadata(&mut module, &self.resolve, self.world, StringEncoding::UTF8, false)?;
        ComponentEncoder::default().module(&module)?.encode()
    }

    fn damaged(&mut self) -> Result<Vec<u8>> {
        let mut bytes = if self.next() % 2 == 0 { self.good.clone() } else { self.plugin(false)? };
        for _ in 0..=self.next() % 4 {
            let at = usize::try_from(self.next())? % bytes.len();
            bytes[at] ^= 1 << (self.next() % 8);
        }
        Ok(bytes)
    }

    fn entropy(&mut self) -> Vec<u8> {
        (0..ENTROPY_BYTES / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// Limits for small components, with features that the host accepts.
fn small() -> Config {
    Config {
        max_instructions: 120,
        max_funcs: 12,
        max_types: 60,
        max_imports: 100,
        max_components: 3,
        max_instances: 3,
        max_modules: 3,
        max_memories: 1,
        max_memory32_bytes: 1 << 22,
        max_data_segments: 0,
        max_table_elements: 1_000,
        memory64_enabled: false,
        threads_enabled: false,
        shared_everything_threads_enabled: false,
        gc_enabled: false,
        exceptions_enabled: false,
        relaxed_simd_enabled: false,
        tail_call_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        reference_types_enabled: false,
        compact_imports_enabled: false,
        allow_start_export: true,
        ..Config::default()
    }
}

/// A valid `describe`, independent of the rest of the module, so that the other two exports are called.
fn describe() -> String {
    let mut text = "(func (export \"tidemill:job/job@0.1.0#describe\") (result i32) (local i32)
        (local.set 0 (i32.shl (memory.grow (i32.const 1)) (i32.const 16)))
        (i32.store (local.get 0) (i32.add (local.get 0) (i32.const 8)))"
        .to_owned();
    text.push_str(&format!("(i32.store offset=4 (local.get 0) (i32.const {}))", DESCRIBE.len()));
    for (n, byte) in DESCRIBE.iter().enumerate() {
        text.push_str(&format!("(i32.store8 offset={} (local.get 0) (i32.const {byte}))", n + 8));
    }
    text.push_str("local.get 0)");
    text
}
