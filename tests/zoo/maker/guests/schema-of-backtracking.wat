;; The schema of its config has a pattern that backtracks endlessly on the job's text.
;; describe: {"name":"g","version":"1","config":{"properties":{"text":{"type":"string","pattern":"^(?=(a|a)*\\1)((a+)+)+$"}}}}
