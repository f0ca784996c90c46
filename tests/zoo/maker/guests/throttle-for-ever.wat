;; Asks for a retry after the largest number of milliseconds.
(data (i32.const 4096) "\01\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\ff\ff\ff\ff\ff\ff\ff\ff\00\04\00\00\01\00\00\00\00\04\00\00\01\00\00\00")
(func (export "@process") (type $process) i32.const 4096)
