;; Answers, then loops where it should take its answer back.
(func (export "cabi_post_tidemill:job/job@0.1.0#process") (param i32) (loop $on br $on))
