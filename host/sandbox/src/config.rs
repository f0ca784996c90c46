use std::path::PathBuf;
use std::time::Duration;

use domain::clock::Clock;
use domain::limits::MIB;
use rustls::pki_types::CertificateDer;

use crate::versions::compile::{Bounds, Compiler};
use crate::versions::signature::Signatures;

/// Limits of loading a version. The keys of `[plugins]` have the same names.
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

    /// The highest values that a configuration may set.
    pub const CEILING: LoadLimits = LoadLimits {
        component_size: 256 * MIB,
        compile_time: Duration::from_secs(600),
        compile_memory: 16 << 30,
        describe_time: Duration::from_secs(60),
    };

    /// The limits of the compiler's process.
    pub fn bounds(&self) -> Bounds {
        Bounds { time: self.compile_time, address_space_bytes: self.compile_memory }
    }

    /// Wall time of `describe`, for a machine that is busy with other work.
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

/// The sandbox's configuration, validated.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The folder whose `*.wasm` files are the plugins.
    pub plugins_dir: PathBuf,
    /// Certificates that HTTPS trusts instead of the browsers' roots, if there are any.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The keys that may sign plugins, and whether a signature is required.
    pub signatures: Signatures,
    /// The clock that guests read.
    pub clock: Clock,
    pub compiler: Compiler,
    /// Folder for compiled components. Without it, each start compiles them again.
    pub data_dir: Option<PathBuf>,
    /// Most concurrent compilations: a slow one does not delay the others.
    pub compiles_max: usize,
    /// Limits of loading a version.
    pub load: LoadLimits,
    /// Most concurrent calls of guests. Other calls wait for a slot.
    pub attempts_max: u32,
    /// Number of versions that [`crate::Sandbox::versions`] remembers.
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
