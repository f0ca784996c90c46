;; Raises an alert with an unknown severity.
(import "tidemill:job/alerts@0.1.0" "raise" (func $raise (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
(func (export "@process") (type $process)
    (call $raise (i32.const 1024) (i32.const 4) (i32.const 1024) (i32.const 4) (i32.const 200)
        (i32.const 1024) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 4096))
    i32.const 0)
