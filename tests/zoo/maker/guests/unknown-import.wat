;; Imports an interface that no host has.
;; world: unknown
(import "zoo:guest/elsewhere" "call" (func $call))
(func (export "@process") (type $process) call $call i32.const 0)
