/**
 * Runs a program inside namespaces of its own (`test/support/apart.sh`) and fails when it leaves there something of ours:
 *
 *   test/support/apart.sh node test/runner/lane.ts PROGRAM [ARGUMENT...]
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { compareHostInventory, takeHostInventory } from '../support/host-audit.ts';

/** Control groups are the machine's; the run looks at them at its end. */
const NO_GROUP = { cgroup: '/esb-none' };

const [program = '', ...args] = process.argv.slice(2);
const before = await takeHostInventory(NO_GROUP);
const child = spawn(program, args, { stdio: 'inherit' });
const [code] = (await once(child, 'close')) as [number | null];
process.exitCode = code ?? 1;
// The socket of a shim that a test has killed goes with the `/run` of the namespaces.
const left = compareHostInventory(before, await takeHostInventory(NO_GROUP)).filter(
  (line) => !line.includes('shim socket'),
);
if (left.length > 0) {
  process.stdout.write(`The namespaces of the tests are not as they were before:\n${left.join('\n')}\n`);
  process.exitCode = 1;
}
