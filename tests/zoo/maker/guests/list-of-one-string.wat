;; Passes a hundred thousand labels that all point to the same half megabyte of memory.
(import "tidemill:job/metrics@0.1.0" "add" (func $add (param i32 i32 i32 i32 i64 i32)))
(memory (export "memory") 64)
(func (export "@process") (type $process) (local $at i32)
    (memory.fill (i32.const 65536) (i32.const 0x61) (i32.const 524288))
    (local.set $at (i32.const 1048576))
    (loop $on
        (i32.store (local.get $at) (i32.const 65536))
        (i32.store offset=4 (local.get $at) (i32.const 524288))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $on (i32.lt_u (local.get $at) (i32.const 2648576))))
    (call $add (i32.const 1024) (i32.const 4) (i32.const 1048576) (i32.const 100000) (i64.const 1) (i32.const 2048))
    i32.const 0)
