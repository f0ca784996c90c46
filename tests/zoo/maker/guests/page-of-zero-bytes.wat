;; Finds an item whose key is a zero byte.
(data (i32.const 4104) "\40\10\00\00\01\00\00\00")
(data (i32.const 4160) "\60\10\00\00\01\00\00\00")
(func (export "@discover") (type $discover) i32.const 4096)
