import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { repositoryRoot } from '../../local/common/repository.ts';
import { createProgress } from '../../src/cli/progress.ts';
import { run } from '../support/command.ts';
import { readInstanceEnvironment } from '../support/instance-environment.ts';
import { patience } from '../support/patience.ts';
import { ensurePythonClients } from '../support/python-clients.ts';
import { instance } from './support/instance.ts';

describe('a function from a folder', () => {
  const esb = instance();

  /** Runs `esb` as a user of the instance would; both streams. */
  async function command(...args: readonly string[]): Promise<string> {
    const { stderr, stdout } = await run(process.execPath, [join(repositoryRoot(), 'local/main.ts'), ...args], {
      env: { ESB_HOME: esb.home },
      timeoutMs: 240_000,
    });
    return stdout + stderr;
  }

  it.each([
    ['python', 'app.py'],
    ['node', 'index.mjs'],
    ['go', 'main.go'],
  ] as const)(
    'in %s is written, deployed, called, changed, and left alone where nothing has changed',
    {
      timeout: 300_000 * patience(),
    },
    async (language, source) => {
      const clients = await ensurePythonClients(createProgress({ write: () => undefined }));
      const work = await mkdtemp(join(tmpdir(), 'esb-first-'));
      onTestFinished(() => rm(work, { recursive: true, force: true }));
      // A name that the tools of a language may have for themselves.
      const name: string = language;
      const folder = join(work, name);
      onTestFinished(async () => {
        await esb.kubectl(['delete', 'lambdafunction', name, '--ignore-not-found']);
        await esb.kubectl(['wait', 'lw', '-l', `esb.dev/lambda-function=${name}`, '--for=delete', '--timeout=60s'], {
          mayFail: true,
        });
      }, 120_000 * patience());

      await command('init', folder, '--language', language);
      const shown = await command(
        'deploy',
        folder,
        '--invoke',
        '{"name": "Ada"}',
        '--timeout',
        '20',
        '--memory',
        '256Mi',
      );
      expect(shown).toContain(`${name} is up to date.`);
      expect(JSON.parse(shown.split('\n').find((line) => line.startsWith('{')) ?? '')).toEqual({
        greeting: 'Hello, Ada!',
        'before you': [],
      });
      // The line for AWS's own command line, as a shell takes it.
      const [line = ''] = /^ +echo .*\| aws .*\\\n.*$/m.exec(shown) ?? [];
      const { stdout } = await run('bash', ['-c', `${line.replace('| aws', `| ${clients.python} -m awscli`)} | cat`], {
        env: { ...readInstanceEnvironment(esb.home), PATH: process.env.PATH, PYTHONPATH: clients.packages },
      });
      expect(stdout).toMatch(/^\{"greeting": ?"Hello, Ada!", ?"before you": ?\["Ada"\]\}/);
      expect((await esb.invoke(name, { name: 'Grace' })).payload).toEqual({
        greeting: 'Hello, Grace!',
        'before you': ['Ada', 'Ada'],
      });

      expect(await command('deploy', folder)).toContain(`${name} is as it was: nothing has changed.`);
      expect((await esb.invoke(name, { name: 'Edsger' })).payload).toMatchObject({
        'before you': ['Ada', 'Ada', 'Grace'],
      });

      const file = join(folder, source);
      await writeFile(file, (await readFile(file, 'utf8')).replace('Hello, ', 'Welcome, '));
      expect(await command('deploy', folder)).toContain(`${name} is up to date.`);
      expect((await esb.invoke(name, { name: 'Ada' })).payload).toEqual({
        greeting: 'Welcome, Ada!',
        'before you': [],
      });
    },
  );

  it('that cannot be loaded ends the command with the reason, and the one before goes on to answer', {
    timeout: 240_000 * patience(),
  }, async () => {
    const work = await mkdtemp(join(tmpdir(), 'esb-first-'));
    onTestFinished(() => rm(work, { recursive: true, force: true }));
    onTestFinished(async () => {
      await esb.kubectl(['delete', 'lambdafunction', 'breaks', '--ignore-not-found']);
    }, 120_000 * patience());
    const folder = join(work, 'breaks');
    await command('init', folder);
    // No working function is lost: the name of the folder is enough the next time.
    await expect(command('deploy', folder, '--handler', 'app.handlr')).rejects.toThrow(/HandlerNotFound.*handlr/);
    expect(await command('logs', 'breaks')).toContain("Handler 'handlr' missing");
    await command('deploy', folder);
    await writeFile(join(folder, 'app.py'), 'import no_such_module\n');
    await expect(command('deploy', folder)).rejects.toThrow(/breaks cannot become up to date: .*no_such_module/s);
    expect((await esb.invoke('breaks', { name: 'Ada' })).payload).toMatchObject({ greeting: 'Hello, Ada!' });
  });
});
