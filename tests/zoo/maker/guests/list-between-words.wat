;; Passes an unaligned pointer to a list.
(import "tidemill:job/metrics@0.1.0" "add" (func $add (param i32 i32 i32 i32 i64 i32)))
(func (export "@process") (type $process)
    (call $add (i32.const 1024) (i32.const 4) (i32.const 4097) (i32.const 1) (i64.const 1) (i32.const 2048))
    i32.const 0)
