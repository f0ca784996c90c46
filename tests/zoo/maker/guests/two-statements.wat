;; Declares a statement that contains a second one.
;; describe: {"name":"g","version":"1","statements":{"s":{"datasource":"witness","sql":"SELECT 1; DROP TABLE witness"}}}
