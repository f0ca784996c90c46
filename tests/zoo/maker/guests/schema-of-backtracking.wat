;; Its config's schema has a pattern that goes back and forth for ever over the text that the job has.
;; describe: {"name":"g","version":"1","config":{"properties":{"text":{"type":"string","pattern":"^(?=(a|a)*\\1)((a+)+)+$"}}}}
