/** Looks after the logs in a folder until it is killed: `node log-rotator.ts FOLDER MAX-BYTES MAX-FILES`. */
import { WorkerLogs } from '../../src/runtime/logs/worker-logs.ts';

const [folder = '', maxBytes, maxFiles] = process.argv.slice(2);
const logs = new WorkerLogs(folder, { limits: { maxBytes: Number(maxBytes), maxFiles: Number(maxFiles) } });
await logs.prepare();
logs.watch();
process.stdout.write('watching\n');
// The watches alone keep no process alive.
setInterval(() => undefined, 60_000);
