// Builds every third-party program into the user cache and prints the folder with all of them; with the argument
// `cluster`, also those that only `npm run test:cluster` needs.

import { clusterFamilies } from '../local/tools/tool-catalog.ts';
import { ensureTools } from '../local/tools/tools.ts';
import { createProgress } from '../src/cli/progress.ts';

const progress = createProgress({ write: (text) => process.stderr.write(text) });
const tools = await ensureTools({ progress });
process.stdout.write(`${tools.folder}\n`);
if (process.argv[2] === 'cluster') {
  const cluster = await ensureTools({ progress, families: clusterFamilies });
  process.stdout.write(`${cluster.folder}\n`);
}
