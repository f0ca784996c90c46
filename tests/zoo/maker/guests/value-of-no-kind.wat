;; Passes a value of an unknown kind.
(import "tidemill:job/sql@0.1.0" "query" (func $query (param i32 i32 i32 i32 i32)))
(data (i32.const 4096) "\63")
(func (export "@process") (type $process)
    (call $query (i32.const 1024) (i32.const 4) (i32.const 4096) (i32.const 1) (i32.const 2048))
    i32.const 0)
