//! `tidemill compile-plugin`: the compiler's own process, see `sandbox::compile_stdin`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use sandbox::Bounds;

use super::failure::EXIT_FAILED;

#[derive(Debug, Args)]
pub struct CompileArgs {
    /// Seconds that it may take
    seconds: u64,
    /// Bytes of address space
    bytes: u64,
    /// Bytes of the component; behind it come the functions that are compiled already
    component: usize,
}

/// Writes problems of the component to stderr unchanged; the host reports them.
pub fn run(args: &CompileArgs) -> ExitCode {
    let bounds = Bounds { time: Duration::from_secs(args.seconds), address_space_bytes: args.bytes };
    match sandbox::compile_stdin(&bounds, args.component) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let _ = write!(std::io::stderr(), "{reason}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}
