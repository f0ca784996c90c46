;; Adds items to its own job until it is refused; each of them does the same.
(import "tidemill:job/items@0.1.0" "enqueue" (func $enqueue (param i32 i32 i32 i32 i32 i32 i32)))
(import "wasi:clocks/monotonic-clock@0.2.12" "now" (func $now (result i64)))
(global $n (mut i64) (i64.const 0))
(data (i32.const 4096) "fork-bomb")
(data (i32.const 4112) "0123456789abcdef0123456789abcdef")
(func (export "@process") (type $process) (local $at i32)
    ;; The new key is its own key with one more character.
    (memory.copy (i32.const 8192) (local.get 0) (local.get 1))
    (local.set $at (i32.add (i32.const 8192) (local.get 1)))
    (loop $on
        (global.set $n (i64.add (global.get $n) (i64.const 1)))
        (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.wrap_i64 (i64.and (global.get $n) (i64.const 63)))))
        (call $enqueue (i32.const 4096) (i32.const 9) (i32.const 8192) (i32.add (local.get 1) (i32.const 1))
            (i32.const 0) (i32.const 0) (i32.const 16384))
        (br_if $on (i32.eqz (i32.load8_u (i32.const 16384)))))
    i32.const 0)
