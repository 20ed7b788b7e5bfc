// Builds every third-party program into the user cache and prints the folder with all of them.
import { createProgress } from '../src/cli/progress.ts';
import { ensureTools } from '../src/cli/tools.ts';

const progress = createProgress({ write: (text) => process.stderr.write(text) });
const tools = await ensureTools({ progress });
process.stdout.write(`${tools.folder}\n`);
