;; Its config's schema goes around in a circle.
;; describe: {"name":"g","version":"1","config":{"$ref":"#/$defs/a","$defs":{"a":{"allOf":[{"$ref":"#/$defs/b"}]},"b":{"anyOf":[{"$ref":"#/$defs/a"}]}}}}
