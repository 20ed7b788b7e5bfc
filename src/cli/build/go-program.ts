import type { CallOptions } from '../../common/deadline.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { runTool } from './tool.ts';

/** Name of the program in the image, as on Lambda. */
export const GO_PROGRAM = 'bootstrap';

/**
 * Builds the program of a function in Go as `target`: static, without paths and times of this machine.
 *
 * @throws {EsbError} `ProgramMissing` without Go, `CommandFailed` with its words
 */
export async function buildGoProgram(
  folder: string,
  target: string,
  architecture: string,
  options: CallOptions & { readonly runner?: CommandRunner | undefined },
): Promise<void> {
  await runTool({
    ...options,
    program: 'go',
    // Without the tag the runtime client brings net/rpc, which only Lambda's former Go runtime called.
    args: ['build', '-trimpath', '-buildvcs=false', '-tags=lambda.norpc', '-ldflags=-s -w', '-o', target, '.'],
    cwd: folder,
    env: { CGO_ENABLED: '0', GOOS: 'linux', GOARCH: architecture },
    wayOut: 'install Go 1.21 or newer, which builds the program of the function',
  });
}
