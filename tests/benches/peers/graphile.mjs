// Items a second of graphile-worker: ITEMS jobs that do nothing, added before the measurement, worked by one
// process with its local queue and batched completion. Prints one JSON line. Started by `cargo xtask bench peers`.
import { makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";

const items = Number(process.env.ITEMS);
const pgPool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 20 });
const utils = await makeWorkerUtils({ pgPool });
await utils.migrate();
// In portions: add_job writes the same row of the task's name each time, which takes ever longer within a transaction.
for (let from = 1; from <= items; from += 1000) {
  await pgPool.query(
    "SELECT graphile_worker.add_job('noop', json_build_object('n', n)) FROM generate_series($1::int, $2::int) n",
    [from, Math.min(from + 999, items)],
  );
}
// Its plans depend on statistics that autovacuum may not have collected yet.
await pgPool.query("VACUUM ANALYZE");

let done = 0;
let finish;
const finished = new Promise((resolve) => (finish = resolve));
const noop = async () => {
  done += 1;
  if (done === items) finish();
};
const began = performance.now();
const runner = await run({
  pgPool,
  concurrency: 24,
  noHandleSignals: true,
  preset: { worker: { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
  taskList: { noop },
});
await finished;
// Returns after the last completions are committed.
await runner.stop();
const seconds = (performance.now() - began) / 1000;

const left = await pgPool.query("SELECT count(*)::int AS jobs FROM graphile_worker._private_jobs");
if (left.rows[0].jobs !== 0) throw new Error(`${left.rows[0].jobs} jobs are left`);
console.log(JSON.stringify({ items, items_per_s: Math.round(items / seconds) }));
await pgPool.end();
process.exit(0);
