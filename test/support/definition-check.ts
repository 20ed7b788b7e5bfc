import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { builtProgram } from '../../local/tools/built-program.ts';
import { toolFamilies } from '../../local/tools/tool-catalog.ts';
import { run } from './command.ts';

const source = fileURLToPath(new URL('./definition-check', import.meta.url));
const server = toolFamilies.filter(({ name }) => name === 'kubernetes');
const name = `definition-check-${server.map(({ version }) => version).join()}`;

/**
 * The program that judges definitions of resources as the API server does that tests run, without one. Made of the same
 * modules, and compiled as these are for the server, so that a build after that one takes seconds.
 */
export function definitionCheck(): Promise<string> {
  const pins = join(import.meta.dirname, '../../hack/tools/kubernetes/go.mod');
  const flags = ['-trimpath', `-modfile=${pins}`, ...server.flatMap((family) => family.flags)];
  return builtProgram(name, source, (program) =>
    run('go', ['build', ...flags, '-ldflags', '-s -w', '-o', program, '.'], {
      cwd: source,
      env: { CGO_ENABLED: '0', GOFLAGS: '-mod=readonly -buildvcs=false', GOWORK: 'off' },
      timeoutMs: 900_000,
    }),
  );
}

/** Path of that program; undefined before `npm test` has built it. */
export function builtDefinitionCheck(): Promise<string | undefined> {
  return builtProgram(name, source, () => Promise.reject(new Error('it is not built'))).catch(() => undefined);
}
