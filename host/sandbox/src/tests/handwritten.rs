//! Handwritten components, for cases that no toolchain produces on purpose.

use std::fs;

use domain::clock::Clock;
use domain::plugin::VersionState;
use test_support::needs;

use super::{Bench, code, job, message};
use crate::SandboxConfig;

/// The smallest job: it describes itself and resolves each item. A case fills in the parts it needs.
#[derive(Clone, Copy, Default)]
pub struct Guest<'a> {
    /// Definitions of the component, before the job's own module.
    pub component: &'a str,
    /// Arguments with which the module is instantiated.
    pub with: &'a str,
    /// Imports of the module, which have to come first.
    pub imports: &'a str,
    /// Definitions of the module.
    pub module: &'a str,
    /// Instructions of `process` before it answers.
    pub process: &'a str,
}

/// The types of the contract, as a guest imports them.
const TYPES: &str = r#"
(import "tidemill:job/types@0.1.0" (instance $types
  (type $request' (record (field "cursor" (option string)) (field "limit" u32) (field "context" string)))
  (export "page-request" (type $request (eq $request')))
  (type $found' (record (field "key" string) (field "payload" string)))
  (export "found" (type $found (eq $found')))
  (type $page' (record (field "items" (list $found)) (field "next" (option string))))
  (export "page" (type $page (eq $page')))
  (type $item' (record (field "key" string) (field "payload" string) (field "attempt" u32)
    (field "idempotency-key" string) (field "context" string)))
  (export "item" (type $item (eq $item')))
  (type $outcome' (variant (case "resolved" (option string)) (case "awaiting" (option string))
    (case "snoozed" u64) (case "other" string)))
  (export "outcome" (type $outcome (eq $outcome')))
  (type $error' (record (field "code" string) (field "message" string)))
  (export "error" (type $error (eq $error')))
  (type $throttle' (record (field "retry-after" u64) (field "error" $error)))
  (export "throttle" (type $throttle (eq $throttle')))
  (type $failure' (variant (case "transient" $error) (case "throttled" $throttle)
    (case "permanent" $error) (case "other" string)))
  (export "failure" (type $failure (eq $failure')))))
(alias export $types "page-request" (type $request))
(alias export $types "page" (type $page))
(alias export $types "item" (type $item))
(alias export $types "outcome" (type $outcome))
(alias export $types "failure" (type $failure))
"#;

/// The exports of the contract, lifted from the instance `$job`.
const EXPORTS: &str = r#"
(func $describe (result string)
  (canon lift (core func $job "describe") (memory (core memory $job "memory"))))
(func $discover (param "request" $request) (result (result $page (error $failure)))
  (canon lift (core func $job "discover") (memory (core memory $job "memory")) (realloc (core func $job "realloc"))))
(func $process (param "item" $item) (result (result $outcome (error $failure)))
  (canon lift (core func $job "process") (memory (core memory $job "memory")) (realloc (core func $job "realloc"))))
(instance $exports
  (export "describe" (func $describe)) (export "discover" (func $discover)) (export "process" (func $process)))
(export "tidemill:job/job@0.1.0" (instance $exports))
"#;

impl Guest<'_> {
    pub fn bytes(&self) -> Vec<u8> {
        wat::parse_str(self.text()).unwrap()
    }

    /// All answers are zeros at 2048: no items, and resolved without a note.
    fn text(&self) -> String {
        let Guest { component, with, imports, module, process } = self;
        let describe = r#"{\"name\":\"by-hand\",\"version\":\"1\",\"summary\":\"By hand.\"}"#;
        let length = describe.replace('\\', "").len();
        format!(
            r#"(component $guest {TYPES} {component}
            (core module $m {imports}
              (memory (export "memory") 2) {module}
              (data (i32.const 1024) "{describe}")
              (data (i32.const 1016) "\00\04\00\00\{length:02x}\00\00\00")
              (global $free (mut i32) (i32.const 65536))
              (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                (global.get $free)
                (global.set $free (i32.add (global.get $free)
                  (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -16)))))
              (func (export "describe") (result i32) (i32.const 1016))
              (func (export "discover") (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 2048))
              (func (export "process") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                {process} (i32.const 2048)))
            (core instance $job (instantiate $m {with})) {EXPORTS})"#
        )
    }

    /// A sandbox with this guest as the plugin `by-hand`, and `noop`.
    pub async fn bench(&self) -> Bench {
        bench_with(&self.bytes()).await
    }
}

async fn bench_with(bytes: &[u8]) -> Bench {
    let bench = Bench::with_jobs(&["noop"], vec![job("noop"), job("by-hand")]).await;
    fs::write(bench.path("by-hand"), bytes).unwrap();
    bench.rescan().await;
    bench
}

/// Why the guest was rejected; panics if it was not.
pub fn rejected(bench: &Bench) -> String {
    let versions = bench.sandbox.versions();
    let version = versions.iter().find(|version| version.plugin.as_str() == "by-hand").unwrap();
    let VersionState::Rejected(reason) = &version.state else { panic!("{:?}", version.state) };
    reason.clone()
}

#[tokio::test]
async fn the_monotonic_clock_of_a_guest_never_shows_zero() {
    needs!(Plugins);
    // Traps during instantiation if the clock shows less than an hour, as Go does if it shows 0.
    let guest = Guest {
        component: r#"(import "wasi:clocks/monotonic-clock@0.2.6" (instance $clock
            (export "now" (func (result u64))) (export "resolution" (func (result u64)))))
            (core func $now (canon lower (func $clock "now")))
            (core instance $clock (export "now" (func $now)))"#,
        with: r#"(with "clock" (instance $clock))"#,
        imports: r#"(import "clock" "now" (func $now (result i64)))"#,
        module: r#"(func $check
            (if (i64.lt_s (call $now) (i64.const 3600000000000)) (then (unreachable))))
            (start $check)"#,
        process: "(call $check)",
    };
    let bench = guest.bench().await;
    assert!(bench.process("by-hand", "").await.result.is_ok());
    bench.still_works().await;
}

/// A component with its own memory, which returns the length of a text of the guest.
const MEASURE: &str = r#"
(component $measure
  (core module $m (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "length") (param i32 i32) (result i32) (local.get 1)))
  (core instance $i (instantiate $m))
  (func (export "length") (param "text" string) (result u32)
    (canon lift (core func $i "length") (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
(instance $measure (instantiate $measure))"#;

const MEASURING: Guest<'_> = Guest {
    component: r#"
        (import "length" (func $length (param "text" string) (result u32)))
        (core module $own (memory (export "memory") 1))
        (core instance $own (instantiate $own))
        (core func $lowered (canon lower (func $length) (memory (core memory $own "memory"))))
        (core instance $lowered (export "length" (func $lowered)))"#,
    with: r#"(with "measure" (instance $lowered))"#,
    imports: r#"(import "measure" "length" (func $length (param i32 i32) (result i32)))"#,
    module: "",
    process: "(if (i32.ne (call $length (i32.const 0) (i32.const 7)) (i32.const 7)) (then (unreachable)))",
};

/// wasmtime connects the two with a module that has both memories.
#[tokio::test]
async fn a_composed_component_runs() {
    needs!(Plugins);
    let composed = format!(
        r#"(component {TYPES} {MEASURE} {}
        (instance $guest (instantiate $guest
          (with "tidemill:job/types@0.1.0" (instance $types)) (with "length" (func $measure "length"))))
        (export "tidemill:job/job@0.1.0" (instance $guest "tidemill:job/job@0.1.0")))"#,
        MEASURING.text()
    );
    let bench = bench_with(&wat::parse_str(composed).unwrap()).await;
    let report = bench.process("by-hand", "").await;
    assert!(report.result.is_ok(), "{report:?}");
    assert_eq!(report.usage.memory_bytes_max, 4 * 64 * 1_024, "the memories of all its modules are counted");
    bench.still_works().await;
}

#[tokio::test]
async fn a_module_with_several_memories_copies_between_them() {
    needs!(Plugins);
    let module = r#"(memory $other 1)"#;
    let process = r#"(i32.store $other (i32.const 8) (i32.const 42))
        (memory.copy 0 $other (i32.const 4096) (i32.const 8) (i32.const 4))
        (if (i32.ne (i32.load (i32.const 4096)) (i32.const 42)) (then (unreachable)))"#;
    let bench = Guest { module, process, ..Guest::default() }.bench().await;
    assert!(bench.process("by-hand", "").await.result.is_ok());
}

/// Each memory stays far below the limit; only their sum is above it.
#[tokio::test]
async fn memories_count_together() {
    needs!(Plugins);
    let module =
        "(memory $a 1) (memory $b 1) (memory $c 1) (memory $d 1) (memory $e 1) (memory $f 1) (memory $g 1)";
    let grow = |pages: u32| {
        let grow = |memory: char| {
            format!(
                "(if (i32.eq (memory.grow ${memory} (i32.const {pages})) (i32.const -1)) (then (unreachable)))"
            )
        };
        ('a'..='g').map(grow).collect::<String>()
    };
    // 64 MiB are 1,024 pages.
    let (fits, too_many) = (grow(130), grow(150));
    let bench = Guest { module, process: &fits, ..Guest::default() }.bench().await;
    let report = bench.process("by-hand", "").await;
    assert!(report.result.is_ok(), "{report:?}");
    assert_eq!(report.usage.memory_bytes_max, (2 + 7 + 7 * 130) * 64 * 1_024);

    let bench = Guest { module, process: &too_many, ..Guest::default() }.bench().await;
    assert_eq!(code(&bench.process("by-hand", "").await), "memory-limit");
    bench.still_works().await;
}

/// The pool of a small machine holds the largest component that can be loaded.
#[tokio::test]
async fn a_pool_of_one_attempt_runs_a_component_with_all_memories_and_instances() {
    needs!(Plugins);
    let memories = "(memory 1) ".repeat(7);
    let instances = "(core module $one)".to_owned() + &"(core instance (instantiate $one))".repeat(60);
    let guest = Guest { component: &instances, module: &memories, ..Guest::default() };
    let dir = tempfile::tempdir().unwrap();
    let config = SandboxConfig { attempts_max: 1, ..SandboxConfig::new(dir.path(), Clock::steady()) };
    let bench = Bench::of(dir, config, &["noop"], vec![job("noop"), job("by-hand")]).await;
    fs::write(bench.path("by-hand"), guest.bytes()).unwrap();
    bench.rescan().await;
    assert_eq!(bench.sandbox.allocator(), "pooling");
    let report = bench.process("by-hand", "").await;
    assert!(report.result.is_ok(), "{report:?}");
    bench.still_works().await;
}

#[tokio::test]
async fn more_memories_than_a_component_may_have_are_refused_by_number() {
    needs!(Plugins);
    let module = "(memory 1) ".repeat(8);
    let bench = Guest { module: &module, ..Guest::default() }.bench().await;
    assert_eq!(rejected(&bench), "it has 9 memories in one module; 8 are the most");

    // One module, which counts as one memory when only modules are read, but 9 instances.
    let many =
        r#"(core module $one (memory 1))"#.to_owned() + &"(core instance (instantiate $one))".repeat(8);
    let bench = Guest { component: &many, ..Guest::default() }.bench().await;
    let reason = rejected(&bench);
    assert!(reason.contains("9 Wasm linear memories") && reason.contains("maximum of 8"), "{reason}");
    bench.still_works().await;
}

#[tokio::test]
async fn the_cause_of_a_trap_comes_before_its_backtrace() {
    needs!(Plugins);
    let deep = r#"(func $deep (param i32)
        (if (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1)))) (else (unreachable))))"#;
    let guest = Guest { module: deep, process: "(call $deep (i32.const 10))", ..Guest::default() };
    let bench = guest.bench().await;
    let report = bench.process("by-hand", "").await;
    assert_eq!(code(&report), "trap");
    let said = message(&report);
    assert!(said.starts_with("wasm trap: wasm `unreachable` instruction executed; "), "{said}");
    bench.still_works().await;
}
