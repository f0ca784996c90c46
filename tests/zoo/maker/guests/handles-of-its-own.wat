;; Creates its own resources repeatedly.
;; world: owner
(import "[export]zoo:guest/things" "[resource-new]thing" (func $new (param i32) (result i32)))
(func (export "@process") (type $process)
    (loop $on (drop (call $new (i32.const 1))) (br $on))
    i32.const 0)
