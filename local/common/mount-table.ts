import { readFile } from 'node:fs/promises';
import { runCommand } from './command.ts';

/** Mount points at or below `folder`, the last mounted first. */
export async function mountsBelow(folder: string): Promise<string[]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8');
  return mountPoints(text)
    .filter((point) => point === folder || point.startsWith(`${folder}/`))
    .reverse();
}

/** Mount points in the text of a `mountinfo`, in its order. Blanks in paths are escaped there as `\040`. */
export function mountPoints(mountinfo: string): string[] {
  return mountinfo
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => point !== '')
    .map((point) =>
      point.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8))),
    );
}

/** Unmounts everything at or below `folder`, also busy mounts. Returns the mounts that stay. */
export async function unmountBelow(folder: string): Promise<string[]> {
  for (const point of await mountsBelow(folder)) {
    const gently = await runCommand('umount', [point], { allowedExitCodes: [0, 1, 32] });
    if (gently.exitCode !== 0) {
      await runCommand('umount', ['--lazy', point], { allowedExitCodes: [0, 1, 32] });
    }
  }
  return mountsBelow(folder);
}
