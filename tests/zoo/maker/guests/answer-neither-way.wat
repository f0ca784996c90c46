;; Returns a result that is neither a success nor a failure.
(data (i32.const 4096) "\ff\ff\ff\ff")
(func (export "@process") (type $process) i32.const 4096)
