;; Loops while it is instantiated.
(func $start (loop $on br $on))
(start $start)
