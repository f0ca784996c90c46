;; Its config's schema has a pattern that takes for ever, or all memory.
;; describe: {"name":"g","version":"1","config":{"properties":{"text":{"type":"string","pattern":"^((((a{1,1000}){1,1000}){1,1000})+)+$"}}}}
