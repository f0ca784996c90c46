;; Its config's schema is itself.
;; describe: {"name":"g","version":"1","config":{"$ref":"#"}}
