//! The compiler as a process of its own: what a component makes of it ends that process, and no attempt waits for it.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::thread::available_parallelism;
use std::time::Duration;

use domain::limits::{KIB, MIB};
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::{Refusal, artefact};
use crate::convert::shown;
use crate::engine;

/// The subcommand by which the host's program is told to compile. What follows are the bounds.
const SUBCOMMAND: &str = "compile-plugin";
/// A machine may have hundreds of cores, and each thread takes some address space.
const THREADS_MAX: usize = 4;
/// Most plugins are smaller: they are compiled in a moment, and somebody waits for it.
const SMALL_BYTES: usize = 256 * KIB;
const ARTEFACT_BYTES_MAX: usize = 256 * MIB;
const COMPLAINT_BYTES_MAX: usize = 4 * KIB;
/// Of `setrlimit`'s bound on time.
const SIGXCPU: i32 = 24;
/// Of a process that gives up, as Rust's do that get no memory.
const SIGABRT: i32 = 6;
/// Of the kernel's, where memory ran out.
const SIGKILL: i32 = 9;

/// What one compilation may take.
#[derive(Debug, Clone)]
pub struct Bounds {
    pub time: Duration,
    pub address_space_bytes: u64,
}

impl Bounds {
    pub const DEFAULT: Bounds = Bounds { time: Duration::from_secs(30), address_space_bytes: 1 << 30 };

    /// From here on, for this process. Where memory runs out, it is the one to go.
    fn apply(&self) -> rustix::io::Result<()> {
        let set = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        set(Resource::Core, 0)?;
        set(Resource::Fsize, 0)?;
        set(Resource::As, self.address_space_bytes)?;
        // The host looks at the time that passes; this is for what goes on when the host was killed.
        set(Resource::Cpu, self.time.as_secs().max(1).saturating_mul(THREADS_MAX as u64))
    }
}

/// Compiles in a process of its own.
#[derive(Debug, Clone)]
pub struct Child {
    pub program: PathBuf,
    pub bounds: Bounds,
}

impl Child {
    /// `program` is the host's own: it has the subcommand `compile-plugin`.
    pub fn of(program: PathBuf) -> Child {
        Child { program, bounds: Bounds::DEFAULT }
    }

    pub async fn compile(&self, component: Vec<u8>) -> Result<Vec<u8>, Refusal> {
        let started = self.command(component.len()).spawn();
        let mut process = started.map_err(|e| {
            Refusal::passing(format!("the compiler {} cannot be started: {e}", self.program.display()))
        })?;
        let (stdin, stdout, stderr) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let talk = async {
            let hand_over = async move {
                if let Some(mut stdin) = stdin {
                    // One that ends before it has read all says why on stderr.
                    let _ = stdin.write_all(&component).await;
                }
            };
            let (artefact, complaint) =
                (all_of(stdout, ARTEFACT_BYTES_MAX), all_of(stderr, COMPLAINT_BYTES_MAX));
            let ((), artefact, complaint) = tokio::join!(hand_over, artefact, complaint);
            (artefact, complaint, process.wait().await)
        };
        let Ok((artefact, complaint, ended)) = tokio::time::timeout(self.bounds.time, talk).await else {
            let _ = process.kill().await;
            return Err(format!("it could not be compiled within {:?}", self.bounds.time).into());
        };
        if artefact.len() > ARTEFACT_BYTES_MAX {
            return Err(format!("compiled it is larger than {ARTEFACT_BYTES_MAX} bytes").into());
        }
        let ended = ended.map_err(|e| Refusal::passing(format!("the compiler was lost: {e}")))?;
        if ended.success() { Ok(artefact) } else { Err(self.why(ended, &complaint)) }
    }

    /// It is told nothing of this process but what it needs.
    fn command(&self, bytes: usize) -> Command {
        let cores = available_parallelism().map_or(1, usize::from);
        // What takes long leaves one core to the attempts that run meanwhile.
        let threads = if bytes > SMALL_BYTES { cores - 1 } else { cores }.clamp(1, THREADS_MAX);
        let mut command = Command::new(&self.program);
        command
            .arg(SUBCOMMAND)
            .args([
                self.bounds.time.as_secs().max(1).to_string(),
                self.bounds.address_space_bytes.to_string(),
            ])
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("MALLOC_ARENA_MAX", threads.to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What a terminal sends to the host is not for it.
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    fn why(&self, ended: ExitStatus, complaint: &[u8]) -> Refusal {
        let Bounds { time, address_space_bytes } = self.bounds;
        let complaint = shown(String::from_utf8_lossy(complaint).trim(), COMPLAINT_BYTES_MAX);
        let reason = match (ended.code(), ended.signal()) {
            (Some(1), _) => complaint,
            (_, Some(SIGXCPU)) => {
                format!("its compilation took more than {time:?} of CPU time on {THREADS_MAX} cores")
            }
            (_, Some(SIGABRT)) if complaint.starts_with("memory allocation of") => {
                format!("its compilation took more than {} MiB of memory", address_space_bytes >> 20)
            }
            (_, Some(SIGKILL)) => return Refusal::passing("its compiler was killed".to_owned()),
            _ => format!("the compiler ended with {ended}: {complaint}"),
        };
        reason.into()
    }
}

/// What is to be read, and one byte more than allowed if it is too much.
async fn all_of(pipe: Option<impl AsyncRead + Unpin>, bytes_max: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What was cut off is known by how the process ended.
        let _ = pipe.take(bytes_max as u64 + 1).read_to_end(&mut bytes).await;
    }
    bytes
}

/// The child's side: compiles the component on stdin, and writes what came of it to stdout.
pub fn compile_stdin(bounds: &Bounds) -> Result<(), String> {
    bounds.apply().map_err(|e| format!("the compiler's bounds cannot be set: {e}"))?;
    let mut component = Vec::new();
    std::io::stdin().read_to_end(&mut component).map_err(|e| format!("the component cannot be read: {e}"))?;
    let engine = engine::for_compiler().map_err(|e| format!("the compiler cannot be set up: {e:#}"))?;
    let artefact = artefact::make(&engine, &component)?;
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&artefact).and_then(|()| stdout.flush());
    written.map_err(|e| format!("what was compiled cannot be handed over: {e}"))
}
