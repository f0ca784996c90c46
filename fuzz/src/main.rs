//! Coverage-guided fuzzing of the targets in tests/fuzz: inputs that reach new code are kept and mutated
//! further. `TIDEMILL_FUZZ_TARGET` names the target; the arguments are libFuzzer's.

#![no_main]

#[path = "../../tests/zoo/nothing.rs"]
mod nothing;
#[path = "../../tests/fuzz/targets.rs"]
mod targets;

use std::path::Path;
use std::sync::LazyLock;

use targets::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let wanted = std::env::var("TIDEMILL_FUZZ_TARGET").unwrap_or_default();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let found = TARGETS.iter().find(|target| target.name == wanted);
    found.unwrap_or_else(|| panic!("TIDEMILL_FUZZ_TARGET is {wanted:?}: it has to be one of {names:?}"))
});

libfuzzer_sys::fuzz_target!(init: plant(), |input: &[u8]| {
    (TARGET.run)(input);
});

/// Writes the target's seeds into libFuzzer's corpus folder.
fn plant() {
    let Some(folder) = std::env::args().skip(1).find(|arg| Path::new(arg).is_dir()) else { return };
    for (n, seed) in TARGET.seeds.iter().enumerate() {
        std::fs::write(Path::new(&folder).join(format!("seed-{n}")), seed)
            .expect("the corpus can be written");
    }
}
