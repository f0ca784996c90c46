;; Logs bytes that are not UTF-8.
(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
(data (i32.const 4096) "\ff\fe\c0\80\ed\a0\80")
(func (export "@process") (type $process)
    (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 4096) (i32.const 7))
    i32.const 0)
