;; Begins with four gigabytes.
(memory (export "memory") 65536)
