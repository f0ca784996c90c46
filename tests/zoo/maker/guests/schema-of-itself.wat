;; The schema of its config refers to itself.
;; describe: {"name":"g","version":"1","config":{"$ref":"#"}}
