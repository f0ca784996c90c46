;; Declares a statement with another one behind it.
;; describe: {"name":"g","version":"1","statements":{"s":{"datasource":"witness","sql":"SELECT 1; DROP TABLE witness"}}}
