import { builtProgram } from '../../local/tools/built-program.ts';
import { run } from './command.ts';

/** A Go program as a static one. Foreign modules come from the network, or the cache of Go. */
export function goProgram(name: string, source: string): Promise<string> {
  return builtProgram(name, source, (program) =>
    run('go', ['build', '-trimpath', '-ldflags', '-s -w', '-o', program, '.'], {
      cwd: source,
      env: { CGO_ENABLED: '0', GOFLAGS: '-buildvcs=false', GOWORK: 'off' },
      timeoutMs: 300_000,
    }),
  );
}
