import { cp, mkdir, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeImageLayout } from '../../local/image/image-layout.ts';
import { writeLayer } from '../../src/oci/image-layer.ts';
import { run } from '../support/command.ts';
import { toolsFolder } from '../support/tools.ts';
import { registryAddress } from './cluster-network.ts';

/** Where the image is that sandboxes run and test Pods have their shell from. */
export const shellImage = `${registryAddress}/busybox:1`;

const programs = ['sh', 'sleep', 'cat', 'ls', 'echo', 'wget', 'httpd', 'mount', 'mkdir', 'touch', 'id'] as const;

/** Puts the image of a shell together from the machine's busybox; gives the folder of its OCI layout. */
export async function buildShellImage(folder: string): Promise<string> {
  const root = join(folder, 'busybox-root');
  const bin = join(root, 'bin');
  const layer = join(folder, 'busybox.tar.gz');
  const layout = join(folder, 'busybox');
  await mkdir(bin, { recursive: true });
  await mkdir(join(root, 'tmp'), { recursive: true });
  const { stdout } = await run('sh', ['-c', 'command -v busybox']);
  await cp(stdout.trim(), join(bin, 'busybox'), { dereference: true });
  for (const program of programs) {
    await symlink('busybox', join(bin, program));
  }
  const descriptor = await writeLayer(root, layer);
  await writeImageLayout(layout, [{ ...descriptor, file: layer }], {
    Entrypoint: ['/bin/sleep'],
    Cmd: ['2000000000'],
    Env: ['PATH=/bin'],
    WorkingDir: '/',
  });
  await rm(root, { recursive: true, force: true });
  return layout;
}

/** Pushes an OCI layout to the registry of the lab; gives the reference. */
export async function pushImage(layout: string, name: string): Promise<string> {
  const reference = `${registryAddress}/${name}`;
  await run(join(toolsFolder(), 'crane'), ['push', '--insecure', layout, reference], { timeoutMs: 300_000 });
  return reference;
}

/** Makes an image of the one of the sample, with the function that tells a ledger in place of its own, in the registry. */
export async function pushLedgerImage(folder: string, sample: string): Promise<string> {
  const root = join(folder, 'ledger-root');
  const layer = join(folder, 'ledger.tar.gz');
  const reference = `${registryAddress}/ledger:latest`;
  await mkdir(join(root, 'var/task'), { recursive: true });
  await cp(fileURLToPath(new URL('ledger-function.py', import.meta.url)), join(root, 'var/task/lambda_function.py'));
  await writeLayer(root, layer);
  await run(join(toolsFolder(), 'crane'), [
    ...['append', '--insecure', '--base', sample, '--new_layer', layer, '--new_tag', reference],
  ]);
  return reference;
}
