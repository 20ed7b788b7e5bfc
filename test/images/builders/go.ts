import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../../local/common/command.ts';
import type { SystemNeed } from '../../../local/tools/debian-packages.ts';
import type { LayerRecipe } from '../layer.ts';
import { functionFile } from './files.ts';

const BUILD_DEADLINE_MS = 10 * 60_000;

/** How a program of Go is built: without a C library, with that of Alpine, or for another processor. */
export type GoTarget = 'static' | 'musl' | 'arm64';

const targets: Readonly<Record<GoTarget, { readonly env: NodeJS.ProcessEnv; readonly needs: readonly SystemNeed[] }>> =
  {
    static: { env: { CGO_ENABLED: '0' }, needs: [] },
    musl: {
      env: { CGO_ENABLED: '1', CC: 'musl-gcc' },
      needs: [{ program: 'musl-gcc', debianPackage: 'musl-tools', purpose: 'building a program for musl' }],
    },
    arm64: { env: { CGO_ENABLED: '0', GOARCH: 'arm64' }, needs: [] },
  };

/**
 * The function in Go, with aws-lambda-go, as a program at a path of the image.
 *
 * @param main file with a function in the place of the usual one
 */
export function goFunctionLayer(target: GoTarget, path: string, main?: string): LayerRecipe {
  const { env, needs } = targets[target];
  return {
    name: `go-${target}`,
    inputs: [env, path],
    sources: () => [functionFile('go'), ...(main === undefined ? [] : [main])],
    needs,
    fill: async (root, { scratch }) => {
      await cp(functionFile('go'), scratch, { recursive: true });
      if (main !== undefined) {
        await cp(main, join(scratch, 'main.go'));
      }
      const args = ['build', '-trimpath', '-tags', 'lambda.norpc', '-ldflags', '-s -w', '-o', join(root, path), '.'];
      await runCommand('go', args, {
        cwd: scratch,
        deadlineMs: BUILD_DEADLINE_MS,
        env: { ...process.env, GOFLAGS: '-buildvcs=false', GOWORK: 'off', GOMAXPROCS: '1', ...env },
      });
    },
  };
}
