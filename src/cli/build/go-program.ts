import { open } from 'node:fs/promises';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { runTool } from './tool.ts';

/** Name of the program in the image, as on Lambda. */
export const GO_PROGRAM = 'bootstrap';
/** First bytes of a program of Linux. */
const ELF = Buffer.from([0x7f, 0x45, 0x4c, 0x46]);

/**
 * Builds the program of a function in Go as `target`: static, without paths and times of this machine.
 *
 * @throws {EsbError} `ProgramMissing` without Go, `CommandFailed` with its words, `InvalidArgument` for a package that
 *   is no program
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
  // Go writes an archive of objects for a package of another name.
  if (!(await isProgram(target))) {
    throw new EsbError(`${folder} has no package main, which makes a program`, { code: 'InvalidArgument' });
  }
}

async function isProgram(file: string): Promise<boolean> {
  const opened = await open(file);
  try {
    const { buffer } = await opened.read(Buffer.alloc(ELF.length), 0, ELF.length, 0);
    return buffer.equals(ELF);
  } finally {
    await opened.close();
  }
}
