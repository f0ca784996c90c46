//! The compiler as a separate process: a component can only crash that process, and no attempt waits for it.

use std::convert::Infallible;
use std::io::{BufWriter, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use domain::id::PluginName;
use domain::limits::{KIB, MIB};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, setpriority_pgrp, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::artefact;
use super::compiled::{Compiled, Refusal};
use super::functions::{FUNCTIONS_BYTES_MAX, Functions};
use crate::engine;
use crate::guest::convert::shown;

/// The subcommand that makes the host's program compile. The limits follow as arguments.
const SUBCOMMAND: &str = "compile-plugin";
/// Limited, because a machine may have hundreds of cores and each thread needs address space.
const THREADS_MAX: usize = 4;
/// Most plugins compile faster than this. A slower compilation continues at low priority. If attempts can use
/// all cores, it gets at most a tenth of them.
const URGENT: Duration = Duration::from_millis(250);
const NICE: i32 = 10;
/// A compilation's wall time may be this many times its CPU time per core: it runs at lower priority than
/// attempts, and the machine may have other work.
const PATIENCE: u32 = 4;
/// A process that continues after SIGXCPU is killed after this many more seconds.
const CPU_GRACE_SECONDS: u64 = 5;
const ARTEFACT_BYTES_MAX: usize = 256 * MIB;
/// Includes the functions: their code and a small overhead each.
const ANSWER_BYTES_MAX: usize = ARTEFACT_BYTES_MAX + 2 * FUNCTIONS_BYTES_MAX;
const COMPLAINT_BYTES_MAX: usize = 4 * KIB;
/// Most bytes shown of a panic's message.
const PANIC_BYTES_MAX: usize = 512;
/// The exit code of Rust programs that panic. [`compile_stdin`] uses it too.
const PANICKED: i32 = 101;
/// The exit code of a compiler that could not start its threads.
const NO_THREADS: i32 = 75;
/// The signal of `setrlimit`'s limit of CPU time.
const SIGXCPU: i32 = 24;
/// The signal of a process that aborts, as Rust programs do when an allocation fails.
const SIGABRT: i32 = 6;
/// The signal of the kernel's out-of-memory killer.
const SIGKILL: i32 = 9;

/// Signals of a fault in the compiler (SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS). Any other
/// signal comes from outside and says nothing about the component.
const FAULTS: [i32; 7] = [4, 5, SIGABRT, 7, 8, 11, 31];

/// Resource limits of one compilation.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// CPU time for each of the cores that it may use.
    pub time: Duration,
    pub address_space_bytes: u64,
}

impl Bounds {
    pub const DEFAULT: Bounds = Bounds { time: Duration::from_secs(60), address_space_bytes: 1 << 30 };

    /// Applies the limits to this process. The OOM killer will choose this process first.
    fn apply(&self) -> rustix::io::Result<()> {
        let set = |resource, most| setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
        let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
        set(Resource::Core, 0)?;
        set(Resource::Fsize, 0)?;
        // A lower limit that was set from outside stays in effect.
        let given = getrlimit(Resource::As).maximum.unwrap_or(u64::MAX);
        set(Resource::As, self.address_space_bytes.min(given))?;
        let cpu = self.time.as_secs().max(1).saturating_mul(threads() as u64);
        let most = Some(cpu.saturating_add(CPU_GRACE_SECONDS));
        setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: most })
    }

    /// Longest wait for a compilation.
    fn patience(&self) -> Duration {
        self.time.saturating_mul(PATIENCE)
    }
}

/// Number of cores that one compilation may use.
fn threads() -> usize {
    available_parallelism().map_or(1, usize::from).min(THREADS_MAX)
}

/// Compiles in a separate process.
#[derive(Debug, Clone)]
pub struct Child {
    pub program: PathBuf,
    pub bounds: Bounds,
}

impl Child {
    /// `program` is the host's own program: it has the subcommand `compile-plugin`.
    pub fn of(program: PathBuf) -> Child {
        Child { program, bounds: Bounds::DEFAULT }
    }

    /// `functions` are those of the previous version, if they are known.
    pub async fn compile(
        &self,
        plugin: &PluginName,
        component: Vec<u8>,
        functions: Vec<u8>,
    ) -> Result<Compiled, Refusal> {
        let started = self.command(component.len()).spawn();
        let mut process = started.map_err(|e| {
            Refusal::temporary(format!("the compiler {} cannot be started: {e}", self.program.display()))
        })?;
        let id = process.id();
        let (stdin, stdout, stderr) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let talk = async {
            let hand_over = async move {
                if let Some(mut stdin) = stdin {
                    // A compiler that ends before it has read everything gives the reason on stderr.
                    let _ = stdin.write_all(&component).await;
                    let _ = stdin.write_all(&functions).await;
                }
            };
            let (answer, complaint) = (all_of(stdout, ANSWER_BYTES_MAX), all_of(stderr, COMPLAINT_BYTES_MAX));
            let ((), answer, complaint) = tokio::join!(hand_over, answer, complaint);
            (answer, complaint, process.wait().await)
        };
        let ended = tokio::select! {
            ended = tokio::time::timeout(self.bounds.patience(), talk) => ended,
            never = step_back(id) => match never {},
        };
        let Ok((answer, complaint, ended)) = ended else {
            let _ = process.kill().await;
            // It runs at lower priority than attempts, so it may just have had too little CPU time.
            let patience = self.bounds.patience();
            let late = format!(
                "it could not be compiled within {patience:?}: the machine is busy ({PATIENCE} times plugins.compile_time)"
            );
            return Err(Refusal::temporary(late));
        };
        let ended = ended.map_err(|e| Refusal::temporary(format!("the compiler was lost: {e}")))?;
        if !ended.success() {
            return Err(self.why(plugin, ended, &complaint));
        }
        let too_large = answer.len() > ANSWER_BYTES_MAX;
        match Compiled::of(answer) {
            Some(compiled) if compiled.artefact.len() <= ARTEFACT_BYTES_MAX => Ok(compiled),
            None if !too_large => Err("the compiler's answer is incomplete".to_owned().into()),
            _ => Err(format!("compiled it is larger than {ARTEFACT_BYTES_MAX} bytes").into()),
        }
    }

    /// Passes only the required parts of this process's environment.
    fn command(&self, bytes: usize) -> Command {
        let threads = threads();
        let mut command = Command::new(&self.program);
        command
            .arg(SUBCOMMAND)
            .args([
                self.bounds.time.as_secs().max(1).to_string(),
                self.bounds.address_space_bytes.to_string(),
                bytes.to_string(),
            ])
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("MALLOC_ARENA_MAX", threads.to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A terminal's signals to the host do not reach the compiler.
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    fn why(&self, plugin: &PluginName, ended: ExitStatus, complaint: &[u8]) -> Refusal {
        let Bounds { time, address_space_bytes } = self.bounds;
        let complaint = String::from_utf8_lossy(complaint);
        let first_line = shown(complaint.lines().next().unwrap_or_default().trim(), PANIC_BYTES_MAX);
        let complaint = shown(complaint.trim(), COMPLAINT_BYTES_MAX);
        let reason = match (ended.code(), ended.signal()) {
            (Some(1), _) => complaint,
            (_, Some(SIGXCPU)) => {
                format!(
                    "its compilation took more than {time:?} on {} cores (plugins.compile_time)",
                    threads()
                )
            }
            (_, Some(SIGABRT)) if complaint.starts_with("memory allocation of") => {
                format!(
                    "its compilation took more than {} MiB of memory (plugins.compile_memory)",
                    address_space_bytes >> 20
                )
            }
            (_, Some(SIGKILL)) => return Refusal::temporary("its compiler was killed".to_owned()),
            (Some(NO_THREADS), _) => {
                return Refusal::temporary(format!(
                    "its compiler could not start its threads: {first_line} (ulimit -u, or the cgroup's pids.max)"
                ));
            }
            (Some(PANICKED), _) => compiler_fault(plugin, &first_line),
            (_, Some(signal)) if !FAULTS.contains(&signal) => {
                return Refusal::temporary(format!("its compiler was ended by signal {signal}"));
            }
            _ => compiler_fault(plugin, &format!("it ended with {ended}: {first_line}")),
        };
        reason.into()
    }
}

/// Lowers the compiler's priority if it takes longer than a moment. Set for the process group, because on
/// Linux each thread has its own priority.
async fn step_back(compiler: Option<u32>) -> Infallible {
    tokio::time::sleep(URGENT).await;
    let group = compiler.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(group) = group {
        // Fails if the process has already ended, which is fine.
        let _ = setpriority_pgrp(Some(group), NICE);
    }
    std::future::pending().await
}

/// Reads the pipe, and one byte more than allowed if there is too much.
async fn all_of(pipe: Option<impl AsyncRead + Unpin>, bytes_max: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // The exit status shows whether the output is incomplete.
        let _ = pipe.take(bytes_max as u64 + 1).read_to_end(&mut bytes).await;
    }
    bytes
}

/// The child's side: compiles the component on stdin, which has `component_bytes` bytes and is followed by
/// the functions. Writes the result to stdout.
pub fn compile_stdin(bounds: &Bounds, component_bytes: usize) -> Result<(), String> {
    bounds.apply().map_err(|e| format!("the compiler's bounds cannot be set: {e}"))?;
    std::panic::set_hook(Box::new(end_at_panic));
    start_threads();
    let (mut component, mut functions) = (Vec::new(), Vec::new());
    let mut stdin = std::io::stdin().lock();
    let read = stdin.by_ref().take(component_bytes as u64).read_to_end(&mut component);
    let read = read.and_then(|_| stdin.read_to_end(&mut functions));
    read.map_err(|e| format!("the component cannot be read: {e}"))?;
    let functions = Arc::new(Functions::of(functions));
    let engine = engine::for_compiler(functions.clone());
    let engine = engine.map_err(|e| format!("the compiler cannot be set up: {e:#}"))?;
    let artefact = artefact::make(&engine, &component)?;
    let mut stdout = BufWriter::new(std::io::stdout().lock());
    let written = Compiled::write(&artefact, &functions, &mut stdout);
    written.map_err(|e| format!("the compiled code cannot be returned: {e}"))
}

/// Starts the compiler's threads, as many as RAYON_NUM_THREADS says. A machine that allows no more threads says nothing
/// about the component, so the process ends with an exit code of its own.
fn start_threads() {
    if let Err(error) = rayon::ThreadPoolBuilder::new().build_global() {
        let _ = write!(std::io::stderr(), "{error}");
        std::process::exit(NO_THREADS);
    }
}

/// Ends the process with the panic's message on stderr, without a report and a backtrace.
fn end_at_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message").replace('\n', " ");
    let _ = std::io::stderr().write_all(message.as_bytes());
    std::process::exit(PANICKED);
}

/// The message for a compiler that failed, as opposed to one that refused the component.
pub fn compiler_fault(plugin: &PluginName, message: &str) -> String {
    format!(
        "the compiler failed on plugin {plugin} ({message}); this is a fault of this host's compiler: build the plugin \
         with another version of its toolchain, or report the fault together with the file"
    )
}

impl Compiled {
    /// The length of the first part comes last, so that reading needs no copy.
    fn write(artefact: &[u8], functions: &Functions, out: &mut impl Write) -> std::io::Result<()> {
        out.write_all(artefact)?;
        functions.write_to(out)?;
        out.write_all(&(artefact.len() as u64).to_le_bytes())?;
        out.flush()
    }

    fn of(mut answer: Vec<u8>) -> Option<Compiled> {
        let (parts, length) = answer.split_last_chunk()?;
        let length =
            usize::try_from(u64::from_le_bytes(*length)).ok().filter(|length| *length <= parts.len())?;
        let parts = parts.len();
        answer.truncate(parts);
        let functions = answer.split_off(length);
        Some(Compiled { artefact: answer, functions })
    }
}
