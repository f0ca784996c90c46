use std::path::PathBuf;
use std::time::Duration;

use domain::clock::Clock;
use domain::limits::MIB;
use rustls::pki_types::CertificateDer;

use crate::compile::Compiler;
use crate::signature::Signatures;

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
    /// The largest file that is read.
    pub component_bytes_max: usize,
    /// What a new version may take to describe itself; its memory is that of `Limits::DEFAULT`.
    pub describe_cpu_time: Duration,
    pub describe_wall_time: Duration,
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
            component_bytes_max: 16 * MIB,
            describe_cpu_time: Duration::from_secs(1),
            describe_wall_time: Duration::from_secs(5),
            attempts_max: 256,
            versions_max: 256,
        }
    }
}
