;; Uses UTF-16, and logs the second half of a surrogate pair alone.
;; strings: utf16
(import "wasi:logging/logging@0.1.0-draft" "log" (func $log (param i32 i32 i32 i32 i32)))
(data (i32.const 4096) "\00\dc\00\dc")
(func (export "@process") (type $process)
    (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 4096) (i32.const 2))
    i32.const 0)
