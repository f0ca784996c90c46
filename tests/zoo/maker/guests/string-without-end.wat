;; Logs a string of four gigabytes.
(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
(func (export "@process") (type $process)
    (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 8) (i32.const -1))
    i32.const 0)
