//! Compiled plugins and their cache.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::clock::Clock;
use domain::id::Digest;
use sha2::{Digest as _, Sha256};
use test_support::needs;

use super::{Bench, guest_path, job};
use crate::versions::compile::cache::{Cache, Kept};
use crate::versions::compile::{Child, Compiler, ComponentCompiler, Functions, make, scan};
use crate::versions::folder::PluginFile;
use crate::{Sandbox, SandboxConfig, engine};

/// The limit of files in a cache.
const FILES_MAX: usize = 512;

fn file(guest: &str) -> PluginFile {
    let bytes = fs::read(guest_path(guest)).unwrap();
    PluginFile::of(guest.parse().unwrap(), bytes, None)
}

/// Can load only cached code, because its compiler does not exist.
fn without_compiler(data_dir: &Path) -> ComponentCompiler {
    let compiler = Compiler::Child(Child::of("/no/such/compiler".into()));
    ComponentCompiler::new(
        engine::for_compiler(Arc::<Functions>::default()).unwrap(),
        compiler,
        Some(data_dir),
        1,
    )
}

fn with_compiler(data_dir: &Path) -> ComponentCompiler {
    ComponentCompiler::new(
        engine::for_compiler(Arc::<Functions>::default()).unwrap(),
        Compiler::InProcess,
        Some(data_dir),
        1,
    )
}

/// The only cached file.
fn kept(data_dir: &Path) -> PathBuf {
    let mut files = fs::read_dir(data_dir.join("compiled")).unwrap().map(|entry| entry.unwrap().path());
    let file = files.next().unwrap();
    assert_eq!(files.next(), None);
    file
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn component_is_compiled_once() {
    needs!(Plugins);
    let dir = tempfile::tempdir().unwrap();
    let none = without_compiler(dir.path()).component(file("noop")).await.err().unwrap();
    assert!(none.reason.starts_with("the compiler /no/such/compiler cannot be started: "), "{none:?}");
    with_compiler(dir.path()).component(file("noop")).await.unwrap();
    without_compiler(dir.path()).component(file("noop")).await.unwrap();
    assert!(
        without_compiler(dir.path()).component(file("panics")).await.is_err(),
        "it is not taken for another"
    );

    assert_eq!(mode(&dir.path().join("compiled")), 0o700);
    assert_eq!(mode(&dir.path().join("compiled.key")), 0o600);
    assert_eq!(mode(&kept(dir.path())), 0o600);
}

/// Compiles with the functions of an earlier compilation. Returns the code, the functions, and how many were
/// reused.
fn compile(guest: &str, before: &[u8]) -> (Vec<u8>, Vec<u8>, (usize, usize)) {
    let functions = Arc::new(Functions::of(before.to_owned()));
    let engine = engine::for_compiler(functions.clone()).unwrap();
    let artefact = make(&engine, &file(guest).bytes).unwrap();
    let mut after = Vec::new();
    functions.write_to(&mut after).unwrap();
    (artefact, after, functions.known())
}

#[test]
fn cached_functions_give_the_same_code() {
    needs!(Plugins);
    // About a tenth of the functions always differ: they depend on the order in which wasmtime processes
    // things.
    let most = |(known, all): (usize, usize)| known * 4 > all * 3;
    let (_, before, (known, all)) = compile("versioned-a", &[]);
    assert!(known == 0 && all > 100, "{known} of {all}");
    let (code, ..) = compile("versioned-b", &[]);
    let (same_code, after, known) = compile("versioned-b", &before);
    assert!(same_code == code, "to the byte");
    assert!(most(known), "the two versions share most functions: {known:?}");
    let (_, _, known) = compile("versioned-b", &after);
    assert!(most(known), "those that were known are handed on: {known:?}");

    let (_, small, _) = compile("noop", &[]);
    let (_, large, _) = compile("stock-replenish", &[]);
    let (_, small_after_large, _) = compile("noop", &large);
    assert!(
        small_after_large.len() * 10 < small.len() * 11 && large.len() > 2 * small.len(),
        "no others are"
    );

    for cut in [1, 7, 8, 39, before.len() / 2, before.len() - 1] {
        let (code_of_cut, _, (known, _)) = compile("versioned-b", &before[..cut]);
        assert!(code_of_cut == code && known == 0, "{cut} bytes are nothing");
    }
}

/// A compiler that only reports the number of bytes it received, and returns an earlier output.
#[tokio::test]
async fn functions_are_handed_to_the_next_compilation_of_the_same_plugin() {
    needs!(Plugins);
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = |name: &str| dir.path().join(name);
    let script = format!(
        "#!/bin/sh\n/usr/bin/wc -c > {}\nexec /bin/cat {}\n",
        path("handed").display(),
        path("answer").display()
    );
    fs::write(path("compiler"), script).unwrap();
    fs::set_permissions(path("compiler"), fs::Permissions::from_mode(0o755)).unwrap();
    let engine = engine::for_compiler(Arc::<Functions>::default()).unwrap();
    let compiler = Compiler::Child(Child::of(path("compiler")));
    let component_compiler = ComponentCompiler::new(engine, compiler, Some(data.path()), 1);

    let functions = b"whatever a compiler says they are";
    let as_plugin = |name: &str, guest: &str| PluginFile { plugin: name.parse().unwrap(), ..file(guest) };
    let handed = async |file: PluginFile| {
        let artefact = compile(file.plugin.as_str(), &[]).0;
        let answer = [&artefact, functions.as_slice(), &(artefact.len() as u64).to_le_bytes()].concat();
        fs::write(path("answer"), answer).unwrap();
        let bytes = file.bytes.len();
        component_compiler.component(file).await.unwrap();
        fs::read_to_string(path("handed")).unwrap().trim().parse::<usize>().unwrap() - bytes
    };
    assert_eq!(handed(as_plugin("versioned-a", "versioned-a")).await, 0);
    assert_eq!(handed(as_plugin("noop", "noop")).await, 0, "another plugin's are not for it");
    assert_eq!(handed(as_plugin("versioned-a", "versioned-b")).await, functions.len());

    fs::write(path("answer"), b"no answer").unwrap();
    let refused = component_compiler.component(file("panics")).await.err().unwrap();
    assert_eq!(refused.reason, "the compiler's answer is incomplete");
}

#[tokio::test]
async fn changed_byte_causes_a_new_compilation() {
    needs!(Plugins);
    let dir = tempfile::tempdir().unwrap();
    with_compiler(dir.path()).component(file("noop")).await.unwrap();
    let good = fs::read(kept(dir.path())).unwrap();
    let component_compiler = without_compiler(dir.path());
    for n in 0..64 {
        let mut bad = good.clone();
        let at = n * (good.len() - 1) / 63;
        bad[at] ^= 1 << (n % 8);
        fs::write(kept_or(dir.path(), &good), &bad).unwrap();
        assert!(component_compiler.component(file("noop")).await.is_err(), "byte {at} was changed");
    }
    for bad in [&good[..0], &good[..31], &good[..good.len() - 1]] {
        fs::write(kept_or(dir.path(), &good), bad).unwrap();
        assert!(component_compiler.component(file("noop")).await.is_err(), "{} bytes are left", bad.len());
    }
    with_compiler(dir.path()).component(file("noop")).await.unwrap();
    assert_eq!(fs::read(kept(dir.path())).unwrap().len(), good.len());
    component_compiler.component(file("noop")).await.unwrap();
}

/// Refused files are removed, so the file is created again for the next change.
fn kept_or(data_dir: &Path, good: &[u8]) -> PathBuf {
    let engine = engine::for_compiler(Arc::<Functions>::default()).unwrap();
    let cache = Cache::open(data_dir, &engine).unwrap();
    cache.put(Kept::Code(file("noop").digest), good[..good.len() - 32].to_vec()).unwrap();
    kept(data_dir)
}

#[tokio::test]
async fn a_seal_of_another_host_or_of_another_component_opens_nothing() {
    needs!(Plugins);
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    with_compiler(there.path()).component(file("noop")).await.unwrap();
    let theirs = fs::read(kept(there.path())).unwrap();
    with_compiler(here.path()).component(file("noop")).await.unwrap();
    let ours = kept(here.path());
    fs::write(&ours, &theirs).unwrap();
    assert!(without_compiler(here.path()).component(file("noop")).await.is_err());

    with_compiler(there.path()).component(file("panics")).await.unwrap();
    let files = fs::read_dir(there.path().join("compiled")).unwrap().map(|entry| entry.unwrap().path());
    let [one, other] = files.collect::<Vec<_>>().try_into().unwrap();
    fs::copy(&one, &other).unwrap();
    let component_compiler = without_compiler(there.path());
    let taken = [
        component_compiler.component(file("noop")).await,
        component_compiler.component(file("panics")).await,
    ];
    assert_eq!(taken.iter().filter(|taken| taken.is_ok()).count(), 1);
}

#[tokio::test]
async fn a_key_that_others_could_read_is_replaced() {
    needs!(Plugins);
    let dir = tempfile::tempdir().unwrap();
    with_compiler(dir.path()).component(file("noop")).await.unwrap();
    let key = dir.path().join("compiled.key");
    let before = fs::read(&key).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(without_compiler(dir.path()).component(file("noop")).await.is_err());
    assert_ne!(fs::read(&key).unwrap(), before);
    assert_eq!(mode(&key), 0o600);
}

#[test]
fn cache_is_bounded_and_keeps_code_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path(), &engine::for_compiler(Arc::<Functions>::default()).unwrap()).unwrap();
    let digest = |n: usize| Digest(Sha256::digest(n.to_string()).into());
    for n in 0..FILES_MAX + 20 {
        cache.put(Kept::Code(digest(n)), n.to_string().into_bytes()).unwrap();
        assert_eq!(cache.get(Kept::Code(digest(0))), Some(b"0".to_vec()), "it is in use all the time");
    }
    let files = fs::read_dir(dir.path().join("compiled")).unwrap().count();
    assert_eq!(files, FILES_MAX);
    assert_eq!(cache.get(Kept::Code(digest(1))), None);
    assert!(cache.get(Kept::Code(digest(FILES_MAX + 19))).is_some());
}

#[tokio::test]
async fn unusable_data_folder_only_costs_time() {
    needs!(Plugins);
    let dir = tempfile::tempdir().unwrap();
    let not_a_folder = dir.path().join("file");
    fs::write(&not_a_folder, "").unwrap();
    with_compiler(&not_a_folder).component(file("noop")).await.unwrap();
}

/// The output of the host's own compiler, sealed or not, does not have the header of a component.
#[tokio::test]
async fn compiled_code_in_the_plugins_folder_is_never_loaded() {
    needs!(Plugins);
    let bench = Bench::with_jobs(&["noop"], vec![job("noop")]).await;
    let data = tempfile::tempdir().unwrap();
    with_compiler(data.path()).component(file("noop")).await.unwrap();
    let sealed = fs::read(kept(data.path())).unwrap();
    assert_eq!(&sealed[..4], b"\x7fELF", "it is what wasmtime would take");
    for bytes in [&sealed[..], &sealed[..sealed.len() - 32]] {
        fs::write(bench.path("elf"), bytes).unwrap();
        fs::write(bench.dir.path().join("noop.cwasm"), bytes).unwrap();
        let report = bench.rescan().await;
        assert_eq!(report.activated, []);
        let domain::plugin::VersionState::Rejected(reason) = &report.rejected[0].state else { panic!() };
        assert_eq!(reason, "it is not a WebAssembly component: its first 8 bytes are wrong");
        assert_eq!((report.rejected.len(), report.trouble.skipped.len()), (1, 0));
    }
    bench.still_works().await;
}

/// A compiler that is missing at first, as when memory or processes run out.
#[tokio::test]
async fn temporary_failure_is_retried_a_limited_number_of_times() {
    needs!(Plugins);
    let (plugins, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::copy(guest_path("noop"), plugins.path().join("noop.wasm")).unwrap();
    let jobs = [Arc::new(job("noop"))];
    let sandbox = || {
        let config = SandboxConfig::new(plugins.path(), Clock::steady());
        let compiler = Compiler::Child(Child::of("/no/such/compiler".into()));
        Sandbox::new(SandboxConfig { compiler, data_dir: Some(data.path().to_owned()), ..config }, None)
            .unwrap()
    };
    let (in_time, too_late) = (sandbox(), sandbox());
    for _ in 0..4 {
        assert_eq!(in_time.rescan(&jobs).await.activated, []);
    }
    for _ in 0..5 {
        assert_eq!(too_late.rescan(&jobs).await.activated, []);
    }
    with_compiler(data.path()).component(file("noop")).await.unwrap();
    assert_eq!(in_time.rescan(&jobs).await.activated.len(), 1, "the fifth time it is there");
    assert_eq!(too_late.rescan(&jobs).await.activated, [], "it was given up");
}

#[tokio::test]
async fn sandbox_starts_from_the_compiled_code_in_its_data_folder() {
    needs!(Plugins);
    let (plugins, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::copy(guest_path("noop"), plugins.path().join("noop.wasm")).unwrap();
    for compiler in [Compiler::InProcess, Compiler::Child(Child::of("/no/such/compiler".into()))] {
        let config = SandboxConfig::new(plugins.path(), Clock::steady());
        let config = SandboxConfig { compiler, data_dir: Some(data.path().to_owned()), ..config };
        let sandbox = Sandbox::new(config, None).unwrap();
        assert_eq!(sandbox.rescan(&[Arc::new(job("noop"))]).await.activated.len(), 1);
    }
}

/// A number in WebAssembly's encoding (LEB128).
fn leb(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while n >= 0x80 {
        bytes.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
    bytes
}

/// Bytes with their length before them.
fn sized(bytes: &[u8]) -> Vec<u8> {
    [leb(bytes.len()).as_slice(), bytes].concat()
}

fn section(id: u8, bytes: &[u8]) -> Vec<u8> {
    [&[id], sized(bytes).as_slice()].concat()
}

fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [b"\0asm\x0d\0\x01\0".to_vec(), sections.concat()].concat()
}

fn module(sections: &[Vec<u8>]) -> Vec<u8> {
    section(1, &[b"\0asm\x01\0\0\0".to_vec(), sections.concat()].concat())
}

/// A core module with `count` functions of this body (locals and code).
fn functions(count: usize, body: &[u8]) -> Vec<u8> {
    let (types, bodies) = (vec![0; count], sized(body).repeat(count));
    let counted = |bytes: &[u8]| [leb(count).as_slice(), bytes].concat();
    module(&[section(1, b"\x01\x60\0\0"), section(3, &counted(&types)), section(10, &counted(&bodies))])
}

/// A module's own memories, of one page each.
fn memories(count: usize) -> Vec<u8> {
    section(5, &[leb(count), b"\0\x01".repeat(count)].concat())
}

fn imported_memories(count: usize) -> Vec<u8> {
    section(2, &[leb(count), b"\x01m\x01m\x02\0\x01".repeat(count)].concat())
}

#[test]
fn components_of_implausible_shape_are_refused_before_compilation() {
    needs!(Plugins);
    let nop = b"\0\x0b";
    let long = [vec![0], vec![1; (1 << 20) - 1], vec![0x0b]].concat();
    let locals = [b"\x01".as_slice(), &leb(10_241), b"\x7f\x0b"].concat();
    let types = |count: usize| section(1, &[leb(count), b"\x60\0\0".repeat(count)].concat());
    let nested = |depth: usize| (1..depth).fold(component(&[]), |inner, _| component(&[section(4, &inner)]));
    let bad = [
        (
            component(&[functions(60_000, nop), functions(40_001, nop)]),
            "it has 100001 functions; 100000 are the most",
        ),
        (component(&[functions(1, &long)]), "it has a function of 1048577 bytes; 1048576 are the most"),
        (
            component(&[functions(1, &locals)]),
            "it has 10241 local variables in one function; 10240 are the most",
        ),
        (
            component(&[module(&[types(25_000)]), module(&[types(25_001)])]),
            "it has 50001 types; 50000 are the most",
        ),
        (nested(17), "it has 17 modules and components in one another; 16 are the most"),
        (component(&vec![module(&[]); 256]), "it has 257 modules and components; 256 are the most"),
        (component(&[module(&[memories(9)])]), "it has 9 memories in one module; 8 are the most"),
        (component(&vec![module(&[memories(1)]); 9]), "it has 9 memories; 8 are the most"),
        (
            component(&[module(&[imported_memories(5), memories(4)])]),
            "it has 9 memories in one module; 8 are the most",
        ),
        (
            component(&[module(&[section(4, &[leb(17), b"\x70\0\x01".repeat(17)].concat())])]),
            "it has 17 tables; 16 are the most",
        ),
        (component(&[vec![1, 0xff]]), "it is not a valid component: "),
    ];
    for (bytes, why) in bad {
        let refused = scan::check(&bytes).unwrap_err();
        assert!(refused.starts_with(why), "{refused}");
    }
    let eight = component(&[module(&[imported_memories(1), memories(7)]), module(&[memories(1)])]);
    for good in [component(&[functions(60_000, nop), functions(40_000, nop)]), nested(16), eight] {
        assert_eq!(scan::check(&good), Ok(()));
    }
    for guest in ["noop", "caller", "stock-replenish"] {
        assert_eq!(scan::check(&file(guest).bytes), Ok(()));
    }
}
