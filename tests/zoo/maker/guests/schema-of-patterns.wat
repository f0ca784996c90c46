;; The schema of its config has a pattern that takes endless time or all memory.
;; describe: {"name":"g","version":"1","config":{"properties":{"text":{"type":"string","pattern":"^((((a{1,1000}){1,1000}){1,1000})+)+$"}}}}
