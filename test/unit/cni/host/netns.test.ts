import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { createNamespaceKeeper } from '../../../../src/cni/host/netns.ts';

it('namespaces are made where another program has removed their folder meanwhile', async () => {
  const root = await mkdtemp(join(tmpdir(), 'esb-netns-'));
  onTestFinished(() => rm(root, { recursive: true }));
  const folder = join(root, 'netns');
  const made: string[] = [];
  const namespaces = createNamespaceKeeper(
    {
      run: async ({ args, program }) => {
        const [first, second, name] = args;
        if (first === 'netns' && second === 'add') {
          await mkdir(folder, { recursive: true });
          await writeFile(join(folder, name ?? ''), '');
          made.push(`ip netns add ${name}`);
        }
        if (program === 'unshare') {
          made.push(`unshare ${first}`);
        }
        return { code: 0, stdout: '', stderr: '' };
      },
    },
    folder,
  );
  await namespaces.create('one', []);
  await namespaces.create('two', []);
  await rm(folder, { recursive: true });
  expect(await namespaces.create('three', [])).toBe(join(folder, 'three'));
  await namespaces.create('four', []);
  expect(made).toEqual([
    'ip netns add one',
    `unshare --net=${folder}/two`,
    'ip netns add three',
    `unshare --net=${folder}/four`,
  ]);
  expect((await readdir(folder)).toSorted()).toEqual(['four', 'three']);
});
