;; Opens buckets repeatedly and never closes them.
(import "wasi:keyvalue/store@0.2.0-draft" "open" (func $open (param i32 i32 i32)))
(func (export "@process") (type $process)
    (loop $on (call $open (i32.const 1024) (i32.const 4) (i32.const 4096)) (br $on))
    i32.const 0)
