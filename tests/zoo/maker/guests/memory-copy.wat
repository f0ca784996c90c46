;; Moves half a gigabyte repeatedly: each move is one instruction, which cannot be interrupted.
(memory (export "memory") 2)
(func (export "@process") (type $process)
    (if (i32.eq (memory.grow (i32.const 8100)) (i32.const -1)) (then unreachable))
    (loop $on (memory.copy (i32.const 131072) (i32.const 65536) (i32.const 530000000)) (br $on))
    i32.const 0)
