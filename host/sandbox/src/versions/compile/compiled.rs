//! The result of a compilation.

/// The output of a compiler.
pub struct Compiled {
    pub artefact: Vec<u8>,
    /// Input for the compilation of the next version. Empty if this process was the compiler.
    pub functions: Vec<u8>,
}

/// Why a component could not be compiled.
#[derive(Debug)]
pub struct Refusal {
    pub reason: String,
    /// The failure is not the component's fault, and another attempt may succeed.
    pub temporary: bool,
}

impl Refusal {
    pub fn temporary(reason: String) -> Refusal {
        Refusal { reason, temporary: true }
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Refusal {
        Refusal { reason, temporary: false }
    }
}
