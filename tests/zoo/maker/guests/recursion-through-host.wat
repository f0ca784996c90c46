;; Calls the host from its allocation function.
(import "wasi:config/store@0.2.0-rc.1" "get" (func $get (param i32 i32 i32)))
(func (export "cabi_realloc") (type $realloc)
    (call $get (i32.const 1024) (i32.const 4) (i32.const 2048))
    i32.const 4096)
