;; Loops during its instantiation.
(func $start (loop $on br $on))
(start $start)
