;; Sets timers repeatedly and never drops them.
(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
(func (export "@process") (type $process)
    (loop $on (drop (call $timer (i64.const 1))) (br $on))
    i32.const 0)
