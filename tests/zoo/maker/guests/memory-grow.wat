;; Allocates and writes one page after the other, until an allocation fails.
(memory (export "memory") 2)
(func (export "@process") (type $process) (local $page i32)
    (loop $on
        (local.set $page (memory.grow (i32.const 1)))
        (if (i32.eq (local.get $page) (i32.const -1)) (then unreachable))
        (i32.store (i32.shl (local.get $page) (i32.const 16)) (i32.const 1))
        (br $on))
    i32.const 0)
