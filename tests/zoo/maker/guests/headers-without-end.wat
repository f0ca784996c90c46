;; Appends endlessly to the headers of a request.
(import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
(import "wasi:http/types@0.2.12" "[method]fields.append" (func $append (param i32 i32 i32 i32 i32 i32)))
(memory (export "memory") 3)
(func (export "@process") (type $process) (local $fields i32)
    (local.set $fields (call $fields))
    (memory.fill (i32.const 65536) (i32.const 0x61) (i32.const 60000))
    (loop $on
        (call $append (local.get $fields) (i32.const 65536) (i32.const 8) (i32.const 65536) (i32.const 60000) (i32.const 4096))
        (br $on))
    i32.const 0)
