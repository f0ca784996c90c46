;; Grows its table by a thousand places at a time, until that fails.
(table $t 1 funcref)
(func (export "@process") (type $process)
    (loop $on
        (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)) (then unreachable))
        (br $on))
    i32.const 0)
