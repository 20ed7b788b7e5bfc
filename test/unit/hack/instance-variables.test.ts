import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { withoutInstance } from '../../../hack/instance-variables.mjs';
import { homeAt } from '../../../local/common/home.ts';
import { writeEnvironment } from '../../../local/instance/instance.ts';
import { run } from '../../support/command.ts';
import { readInstanceEnvironment } from '../../support/instance-environment.ts';

const own = { HOME: '/home/me', PATH: '/usr/bin:/bin' };

it('a shell that has sourced the variables of an instance has none of them in tests', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'esb-variables-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const home = homeAt(folder);
  const state = { authentication: 'off' } as const;
  await writeEnvironment({ home, state, registry: '127.0.0.1:5000', gateways: ['http://127.0.0.1:9080'] } as never);
  expect(readInstanceEnvironment(folder).CONTAINERD_ADDRESS).toBe(home.node('node-1').containerdSocket);
  const { stdout } = await run('env', [
    '-i',
    'HOME=/home/me',
    'PATH=/usr/bin:/bin',
    'sh',
    '-c',
    `. ${home.envFile}; env`,
  ]);
  const sourced = Object.fromEntries(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.split(/=(.*)/s).slice(0, 2)),
  );
  expect(sourced.KUBECONFIG).toBe(home.kubeconfig);
  const left = withoutInstance(sourced);
  expect({ HOME: left.HOME, PATH: left.PATH }).toEqual(own);
  // The shell adds these by itself.
  expect(Object.keys(left).filter((name) => !['PWD', 'OLDPWD', 'SHLVL', '_'].includes(name))).toEqual(['HOME', 'PATH']);
});

it('variables of another origin stay', () => {
  const env = { ...own, KUBECONFIG: '/home/me/.kube/config', AWS_REGION: 'eu-west-1' };
  expect(withoutInstance(env)).toBe(env);
});
