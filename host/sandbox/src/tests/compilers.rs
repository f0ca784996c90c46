//! Reports about a failing compiler, with scripts in its place.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tempfile::TempDir;
use test_support::needs;

use super::guest_path;
use crate::engine;
use crate::versions::compile::{Bounds, Child, Compiler, ComponentCompiler, Functions};
use crate::versions::folder::PluginFile;

/// Why `noop` is rejected when this script is its compiler.
async fn refused_by(script: &str) -> String {
    let dir = TempDir::new().unwrap();
    let program = dir.path().join("compiler");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let compiler = Compiler::Child(Child { program, bounds: Bounds::DEFAULT });
    let component_compiler =
        ComponentCompiler::new(engine::for_compiler(Arc::<Functions>::default()).unwrap(), compiler, None, 1);
    let bytes = fs::read(guest_path("noop")).unwrap();
    let file = PluginFile::of("noop".parse().unwrap(), bytes, None);
    component_compiler.component(file).await.err().unwrap().reason
}

#[tokio::test]
async fn a_compiler_that_panics_is_reported_in_one_sentence() {
    needs!(Plugins);
    let dump = "printf 'invalid adapter module\\nstack backtrace:\\n   0: rust_begin_unwind\\n' >&2";
    let remedy = "; this is a fault of this host's compiler: build the plugin with another version of its toolchain, \
        or report the fault together with the file";
    let reason = refused_by(&format!("cat > /dev/null; {dump}; exit 101")).await;
    assert_eq!(reason, format!("the compiler failed on plugin noop (invalid adapter module){remedy}"));
    let reason = refused_by(&format!("cat > /dev/null; {dump}; kill -SEGV $$")).await;
    assert!(reason.starts_with("the compiler failed on plugin noop (it ended with signal: 11"), "{reason}");
    assert!(reason.ends_with(remedy) && !reason.contains("backtrace"), "{reason}");
}

#[tokio::test]
async fn a_compiler_without_threads_says_nothing_about_its_component() {
    needs!(Plugins);
    let reason = refused_by("cat > /dev/null; printf 'Resource temporarily unavailable' >&2; exit 75").await;
    let expected = "its compiler could not start its threads: Resource temporarily unavailable (ulimit -u, or the cgroup's \
                    pids.max)";
    assert_eq!(reason, expected);
}

#[tokio::test]
async fn a_limit_of_the_compiler_is_named_by_its_key() {
    needs!(Plugins);
    let reason = refused_by("cat > /dev/null; kill -XCPU $$").await;
    let cores = std::thread::available_parallelism().unwrap().get().min(4);
    assert_eq!(reason, format!("its compilation took more than 60s on {cores} cores (plugins.compile_time)"));
    let reason =
        refused_by("cat > /dev/null; echo 'memory allocation of 8 bytes failed' >&2; kill -ABRT $$").await;
    assert_eq!(reason, "its compilation took more than 1024 MiB of memory (plugins.compile_memory)");
}
