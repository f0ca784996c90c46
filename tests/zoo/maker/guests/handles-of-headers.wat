;; Creates headers of requests repeatedly and never drops them.
(import "wasi:http/types@0.2.12" "[constructor]fields" (func $fields (result i32)))
(func (export "@process") (type $process)
    (loop $on (drop (call $fields)) (br $on))
    i32.const 0)
