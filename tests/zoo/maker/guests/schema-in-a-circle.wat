;; The schema of its config has a cycle of references.
;; describe: {"name":"g","version":"1","config":{"$ref":"#/$defs/a","$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"anyOf":[{"$ref":"#/$defs/a"}]}}}}
