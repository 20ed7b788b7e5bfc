import { chmod, copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Step } from '../../src/cli/progress.ts';
import { EsbError } from '../../src/common/errors.ts';
import { runCommand } from '../common/command.ts';
import { localCode } from '../common/error-codes.ts';
import { debianClosure, ensurePackageLists, unpackDebianPackages } from './debian-root.ts';

const pythonPackages =
  /^(python3\.\d+-minimal|libpython3\.\d+-(minimal|stdlib)|libc6|zlib1g|libexpat1|libssl3(t64)?|libgcc-s1|libstdc\+\+6|libbz2-1\.0|liblzma5|libffi\d+|libuuid1|libcrypt1|libzstd1)$/;
const nodePackages = /^(libc6|libgcc-s1|libstdc\+\+6|libatomic1)$/;

/**
 * Version of Debian's Python, `3.11` for instance.
 *
 * @throws {EsbError} `PackagesMissing` when the package lists of this machine have none
 */
export async function debianPythonVersion(step: Step, signal?: AbortSignal): Promise<string> {
  await ensurePackageLists('python3-minimal', step, signal);
  const { stdout } = await runCommand('apt-cache', ['depends', 'python3-minimal'], { signal });
  const version = /\bpython(3\.\d+)-minimal\b/.exec(stdout)?.[1];
  if (version === undefined) {
    throw new EsbError('the package lists of this machine do not say which Python 3 they have', {
      code: localCode('PackagesMissing'),
    });
  }
  return version;
}

/** Unpacks Debian's Python into `root`, as `python3`, and returns its version. */
export async function unpackDebianPython(root: string, step: Step, signal?: AbortSignal): Promise<string> {
  const version = await debianPythonVersion(step, signal);
  const roots = [`python${version}-minimal`, `libpython${version}-stdlib`, 'libstdc++6'];
  await unpackDebianPackages(await debianClosure(roots, pythonPackages, { signal }), root, step, { signal });
  await runCommand('ln', ['-sf', `python${version}`, join(root, 'usr/bin/python3')]);
  return version;
}

/** Puts the Node.js that runs this program, and the libraries that it needs, into `root`. */
export async function unpackNode(root: string, step: Step, signal?: AbortSignal): Promise<void> {
  await ensurePackageLists('libatomic1', step, signal);
  await unpackDebianPackages(await debianClosure(['libatomic1', 'libstdc++6'], nodePackages, { signal }), root, step, {
    signal,
  });
  const target = join(root, 'usr/bin/node');
  await copyFile(process.execPath, target);
  step.note('stripping the Node.js program');
  try {
    await runCommand('strip', [target], { signal });
  } catch {
    // Without binutils the image is a little larger.
  }
  await chmod(target, 0o755);
}
