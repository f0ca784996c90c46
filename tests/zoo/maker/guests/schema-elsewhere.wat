;; Its config's schema is a file of the host's.
;; describe: {"name":"g","version":"1","config":{"$ref":"file:///etc/passwd"}}
