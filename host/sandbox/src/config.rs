use std::path::PathBuf;
use std::time::Duration;

use domain::clock::Clock;
use domain::limits::MIB;
use rustls::pki_types::CertificateDer;

use crate::compile::{Bounds, Compiler};
use crate::signature::Signatures;

/// What a file may take to become a version: the keys of `[plugins]` that have these names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadLimits {
    /// The largest component.
    pub component_size: usize,
    pub compile_time: Duration,
    /// Address space of the compiler's process.
    pub compile_memory: u64,
    /// CPU time of `describe`. Its memory is that of `Limits::DEFAULT`.
    pub describe_time: Duration,
}

impl LoadLimits {
    pub const DEFAULT: LoadLimits = LoadLimits {
        component_size: 32 * MIB,
        compile_time: Bounds::DEFAULT.time,
        compile_memory: Bounds::DEFAULT.address_space_bytes,
        describe_time: Duration::from_secs(1),
    };

    /// The most that a configuration may ask for.
    pub const CEILING: LoadLimits = LoadLimits {
        component_size: 256 * MIB,
        compile_time: Duration::from_secs(600),
        compile_memory: 16 << 30,
        describe_time: Duration::from_secs(60),
    };

    /// For the compiler's process.
    pub fn bounds(&self) -> Bounds {
        Bounds { time: self.compile_time, address_space_bytes: self.compile_memory }
    }

    /// How long `describe` may take in all, on a machine that is busy with other work.
    pub fn describe_wall_time(&self) -> Duration {
        self.describe_time.saturating_mul(5).max(Duration::from_secs(5))
    }

    pub fn too_large(&self) -> String {
        format!("it is larger than {} bytes (plugins.component_size)", self.component_size)
    }
}

impl Default for LoadLimits {
    fn default() -> LoadLimits {
        LoadLimits::DEFAULT
    }
}

/// What the sandbox is told, checked.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The folder whose `*.wasm` files are the plugins.
    pub plugins_dir: PathBuf,
    /// Certificates that HTTPS trusts in place of the roots of browsers, if there are any.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Who may sign plugins, and whether somebody has to.
    pub signatures: Signatures,
    /// What guests read as the time.
    pub clock: Clock,
    pub compiler: Compiler,
    /// Where compiled components are kept; without it each start compiles them anew.
    pub data_dir: Option<PathBuf>,
    /// Components that are compiled at the same time: one that is hard to compile does not hold up the others.
    pub compiles_max: usize,
    /// What a file may take to become a version.
    pub load: LoadLimits,
    /// Attempts that are inside a guest at the same time; the others wait for a slot.
    pub attempts_max: u32,
    /// Versions that [`crate::Sandbox::versions`] remembers.
    pub versions_max: usize,
}

impl SandboxConfig {
    pub fn new(plugins_dir: impl Into<PathBuf>, clock: Clock) -> SandboxConfig {
        SandboxConfig {
            plugins_dir: plugins_dir.into(),
            certificates: Vec::new(),
            signatures: Signatures::default(),
            clock,
            compiler: Compiler::InProcess,
            data_dir: None,
            compiles_max: 2,
            load: LoadLimits::DEFAULT,
            attempts_max: 256,
            versions_max: 256,
        }
    }
}
