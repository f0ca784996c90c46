;; The schema of its config refers to a file of the host.
;; describe: {"name":"g","version":"1","config":{"$ref":"file:///etc/passwd"}}
