;; Waits for a timer with the largest number of nanoseconds.
(import "wasi:clocks/monotonic-clock@0.2.12" "subscribe-duration" (func $timer (param i64) (result i32)))
(import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
(func (export "@process") (type $process)
    (call $block (call $timer (i64.const -1)))
    i32.const 0)
