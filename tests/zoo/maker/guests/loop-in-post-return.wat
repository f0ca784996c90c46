;; Returns, then loops in its post-return function.
(func (export "cabi_post_tidemill:job/job@0.1.0#process") (param i32) (loop $on br $on))
