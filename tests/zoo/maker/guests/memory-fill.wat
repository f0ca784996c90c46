;; Fills all of its memory repeatedly: each fill is one instruction, which cannot be interrupted.
(memory (export "memory") 960)
(func (export "@process") (type $process)
    (loop $on (memory.fill (i32.const 65536) (i32.const 7) (i32.const 62000000)) (br $on))
    i32.const 0)
