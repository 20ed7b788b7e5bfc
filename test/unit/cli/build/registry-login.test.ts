import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { findLogin } from '../../../../src/cli/build/registry-login.ts';
import type { CommandRunner } from '../../../../src/common/exec/command-runner.ts';

/** A user with this file of Docker; undefined for none. */
async function userWith(config: string | undefined): Promise<NodeJS.ProcessEnv> {
  const folder = await mkdtemp(join(tmpdir(), 'esb-login-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  if (config !== undefined) {
    await writeFile(join(folder, 'config.json'), config);
  }
  return { DOCKER_CONFIG: folder };
}

function helper(code: number, stdout: string) {
  const runs: string[] = [];
  const runner: CommandRunner = {
    run({ args, input, program }) {
      runs.push(`${program} ${args.join(' ')} < ${input}`);
      return Promise.resolve({ code, stdout, stderr: '' });
    },
  };
  return { runs, runner };
}

const auth = Buffer.from('ada:lovelace').toString('base64');

it('a login is the one that Docker keeps in its file', async () => {
  const env = await userWith(JSON.stringify({ auths: { 'registry.example': { auth } } }));
  expect(await findLogin('registry.example', 'team/hello', env)).toEqual({ username: 'ada', password: 'lovelace' });
  expect(await findLogin('other.example', 'team/hello', env)).toBeUndefined();
});

it('there is no login without a file', async () => {
  expect(await findLogin('registry.example', 'team/hello', await userWith(undefined))).toBeUndefined();
});

it('a file that makes no sense is told of', async () => {
  await expect(findLogin('registry.example', 'hello', await userWith('{'))).rejects.toThrow(/config.json is not JSON/);
});

it('a helper is asked for the login that it keeps', async () => {
  const env = await userWith(JSON.stringify({ credsStore: 'desktop', credHelpers: { 'registry.example': 'own' } }));
  const own = helper(0, '{"Username":"ada","Secret":"lovelace"}');
  expect(await findLogin('registry.example', 'hello', env, own)).toEqual({ username: 'ada', password: 'lovelace' });
  const store = helper(0, '{"Username":"<token>","Secret":"abc"}');
  expect(await findLogin('docker.io', 'team/hello', env, store)).toEqual({ identityToken: 'abc' });
  expect([...own.runs, ...store.runs]).toEqual([
    'docker-credential-own get < registry.example',
    'docker-credential-desktop get < https://index.docker.io/v1/',
  ]);
});

it('where a helper keeps none, the file may', async () => {
  const env = await userWith(JSON.stringify({ credsStore: 'desktop', auths: { 'registry.example': { auth } } }));
  expect(await findLogin('registry.example', 'hello', env, helper(1, 'credentials not found'))).toEqual({
    username: 'ada',
    password: 'lovelace',
  });
});

it('a helper that is not there is told of by its name', async () => {
  const env = await userWith(JSON.stringify({ credsStore: 'no-such-helper' }));
  await expect(findLogin('registry.example', 'hello', env)).rejects.toThrow(/docker-credential-no-such-helper/);
});
