/**
 * To be imported before a role: a worker whose resource names no interface has an emulator, as in the releases before ESB
 * served the Runtime API itself.
 */
import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import { changedSource } from '../simulation/hooks.ts';

const change = { file: 'src/api/lambda-worker.ts', text: "Bridge: 'Lambda'", by: "Bridge: 'Emulator'" };

registerHooks({
  load(url, context, next) {
    return url.endsWith(`/${change.file}`)
      ? {
          format: 'module-typescript',
          source: changedSource(readFileSync(fileURLToPath(url), 'utf8'), [change]),
          shortCircuit: true,
        }
      : next(url, context);
  },
});
