;; Declares a statement that would open another file.
;; describe: {"name":"g","version":"1","statements":{"s":{"datasource":"witness","sql":"ATTACH 'data/tidemill.db' AS host"}}}
