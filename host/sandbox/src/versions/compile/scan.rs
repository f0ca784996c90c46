//! Rejects components with shapes that no real toolchain produces, before they are compiled.

use domain::limits::{KIB, MIB};
use wasmparser::{FunctionBody, ImportSectionReader, Parser, Payload, TypeRef};

use crate::component_limits::{MEMORIES_MAX, TABLES_MAX};

/// Most functions of all modules together. Python's interpreter has 15,000.
const FUNCTIONS_MAX: u32 = 100_000;
const FUNCTION_BYTES_MAX: usize = MIB;
/// Most local variables of one function.
const LOCALS_MAX: u32 = 10 * KIB as u32;
/// Most types of all modules and components together.
const TYPES_MAX: u32 = 50_000;
/// Deepest nesting of modules and components.
const DEPTH_MAX: u32 = 16;
/// Most modules and components together.
const PARTS_MAX: u32 = 256;

#[derive(Default)]
struct Outline {
    functions: u32,
    types: u32,
    parts: u32,
    depth: u32,
    /// Memories and tables defined by the modules. Instances of the same module are counted by wasmtime.
    memories: u32,
    tables: u32,
    /// Memories of the module that is being read, including imported ones.
    module_memories: u32,
}

/// Reads only the head of each section and each function.
pub fn check(component: &[u8]) -> Result<(), String> {
    let mut outline = Outline::default();
    for payload in Parser::new(0).parse_all(component) {
        outline.add(&payload.map_err(invalid)?)?;
    }
    Ok(())
}

fn invalid(error: wasmparser::BinaryReaderError) -> String {
    format!("it is not a valid component: {error}")
}

impl Outline {
    fn add(&mut self, payload: &Payload<'_>) -> Result<(), String> {
        match payload {
            Payload::Version { .. } => {
                self.module_memories = 0;
                self.depth += 1;
                within("modules and components in one another", self.depth, DEPTH_MAX)?;
                count("modules and components", &mut self.parts, 1, PARTS_MAX)
            }
            Payload::End(_) => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            Payload::TypeSection(types) => self.add_types(types.count()),
            Payload::CoreTypeSection(types) => self.add_types(types.count()),
            Payload::ComponentTypeSection(types) => self.add_types(types.count()),
            Payload::ImportSection(imports) => self.add_imports(imports),
            Payload::MemorySection(memories) => {
                self.add_memories(memories.count())?;
                count("memories", &mut self.memories, memories.count(), MEMORIES_MAX)
            }
            Payload::TableSection(tables) => count("tables", &mut self.tables, tables.count(), TABLES_MAX),
            Payload::CodeSectionStart { count: functions, .. } => {
                count("functions", &mut self.functions, *functions, FUNCTIONS_MAX)
            }
            Payload::CodeSectionEntry(body) => check_function(body),
            _ => Ok(()),
        }
    }

    fn add_imports(&mut self, imports: &ImportSectionReader<'_>) -> Result<(), String> {
        for import in imports.clone().into_imports() {
            if matches!(import.map_err(invalid)?.ty, TypeRef::Memory(_)) {
                self.add_memories(1)?;
            }
        }
        Ok(())
    }

    fn add_memories(&mut self, memories: u32) -> Result<(), String> {
        count("memories in one module", &mut self.module_memories, memories, MEMORIES_MAX)
    }

    fn add_types(&mut self, types: u32) -> Result<(), String> {
        count("types", &mut self.types, types, TYPES_MAX)
    }
}

fn check_function(body: &FunctionBody<'_>) -> Result<(), String> {
    let bytes = body.range().len();
    if bytes > FUNCTION_BYTES_MAX {
        return Err(format!("it has a function of {bytes} bytes; {FUNCTION_BYTES_MAX} are the most"));
    }
    let mut locals = 0;
    for declared in body.get_locals_reader().map_err(invalid)? {
        let (more, _) = declared.map_err(invalid)?;
        count("local variables in one function", &mut locals, more, LOCALS_MAX)?;
    }
    Ok(())
}

fn count(what: &str, sum: &mut u32, more: u32, max: u32) -> Result<(), String> {
    *sum = sum.saturating_add(more);
    within(what, *sum, max)
}

fn within(what: &str, number: u32, max: u32) -> Result<(), String> {
    if number > max { Err(format!("it has {number} {what}; {max} are the most")) } else { Ok(()) }
}
