// Items a second of pg-boss: ITEMS jobs that do nothing, added before the measurement; four loops fetch 500 jobs
// at a time and complete them. Prints one JSON line. Started by `cargo xtask bench peers`.
import PgBoss from "pg-boss";

const ADDED_AT_A_TIME = 5000;
const FETCHED_AT_A_TIME = 500;
const LOOPS = 4;

const items = Number(process.env.ITEMS);
const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, max: 20 });
boss.on("error", (error) => {
  throw error;
});
await boss.start();
await boss.createQueue("noop");
for (let first = 0; first < items; first += ADDED_AT_A_TIME) {
  const length = Math.min(ADDED_AT_A_TIME, items - first);
  await boss.insert(Array.from({ length }, (_, n) => ({ name: "noop", data: { n: first + n } })));
}

let done = 0;
const loop = async () => {
  for (;;) {
    const jobs = await boss.fetch("noop", { batchSize: FETCHED_AT_A_TIME });
    if (!jobs?.length) return;
    await boss.complete("noop", jobs.map((job) => job.id));
    done += jobs.length;
  }
};
const began = performance.now();
await Promise.all(Array.from({ length: LOOPS }, loop));
const seconds = (performance.now() - began) / 1000;

if (done !== items) throw new Error(`${done} of ${items} jobs were completed`);
console.log(JSON.stringify({ items, items_per_s: Math.round(items / seconds) }));
await boss.stop({ graceful: false });
process.exit(0);
