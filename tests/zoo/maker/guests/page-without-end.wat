;; Returns a page with four billion items.
(data (i32.const 4108) "\ff\ff\ff\ff")
(func (export "@discover") (type $discover) i32.const 4096)
