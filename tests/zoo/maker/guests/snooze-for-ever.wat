;; Asks to be called again at the last millisecond that a number can hold.
(data (i32.const 4096) "\00\00\00\00\00\00\00\00\02\00\00\00\00\00\00\00\ff\ff\ff\ff\ff\ff\ff\ff")
(func (export "@process") (type $process) i32.const 4096)
