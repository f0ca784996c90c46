;; Starts with four gigabytes of memory.
(memory (export "memory") 65536)
