import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { createProgress } from '../../src/cli/progress.ts';
import { run } from '../support/command.ts';
import { documentationRoot, textOf } from '../support/documentation.ts';
import { readInstanceEnvironment } from '../support/instance-environment.ts';
import { shellBlocksOf } from '../support/markdown-file.ts';
import { ensurePythonClients } from '../support/python-clients.ts';
import { instance } from './support/instance.ts';

/** Lines that are about the instance itself: it is there already, and goes on to be there. */
const aboutInstance = /^(npm run (up|down)|source \.esb\/env|npm run up && source \.esb\/env)$/;

describe('pages for a local instance', () => {
  const esb = instance();

  /** Runs lines of shell as a reader would, in the root of a clone; what both streams showed. */
  async function follow(lines: readonly string[]): Promise<string> {
    const temporary = mkdtempSync(join(tmpdir(), 'esb-pages-'));
    onTestFinished(() => rmSync(temporary, { recursive: true, force: true }));
    const script = ['exec 2>&1', ...lines].join('\n');
    const { stdout } = await run('bash', ['-e', '-o', 'pipefail', '-c', script], {
      cwd: documentationRoot,
      timeoutMs: 280_000,
      env: {
        ...readInstanceEnvironment(esb.home),
        PATH: `${esb.home}/bin:${process.env.PATH ?? ''}`,
        TMPDIR: temporary,
      },
    });
    return stdout;
  }

  const linesOf = (page: string): readonly string[] => shellBlocksOf(textOf(page)).join('\n').split('\n');

  beforeAll(async () => {
    // Steps of `npm run up` beside the parts.
    await esb.kubectl(['apply', '-f', 'manifests/samples/hello.yaml'], { cwd: documentationRoot });
    await esb.ready('hello');
    return async () => {
      await esb.delete('hello');
    };
  });

  /** Lines of a page with the folders that it has beside the clone in a temporary one. */
  const withFolders = (lines: readonly string[]): readonly string[] =>
    lines.map((line) => line.replaceAll('../greeter', '"$TMPDIR/greeter"'));

  it("the three commands of the README end with the answer of a function of one's own", {
    timeout: 300_000,
  }, async () => {
    const [first = ''] = shellBlocksOf(textOf('README.md'));
    const [up, ...rest] = first.trim().split('\n');
    expect(up).toMatch(/^npm run up && source \.esb\/env +#/);
    expect(rest).toHaveLength(2);
    const shown = await follow([...withFolders(rest), 'kubectl delete lambdafunction greeter']);
    expect(shown).toContain('{"greeting": "Hello, Ada!", "before you": []}');
  });

  it('the tutorial can be followed to its end, and shows what it says', { timeout: 300_000 }, async () => {
    const lines = linesOf('docs/tutorial/first-function.md');
    expect(lines).toContain('npm run up && source .esb/env');
    const script = withFolders(lines.filter((line) => !aboutInstance.test(line)));
    expect(script.length).toBeGreaterThan(20);
    const shown = await follow(script);
    for (const wanted of [
      /greeter is up to date\./,
      '{"greeting": "Hello, Ada!", "before you": []}',
      '{"greeting": "Hello, Grace!", "before you": ["Ada"]}',
      '{"greeting": "Hello, Edsger!", "before you": ["Ada", "Grace"]}',
      'greeting Grace',
      /wake +\S+ ms {2}resumed/,
      '{"greeting": "Hello, Barbara!", "before you": ["Ada", "Grace", "Edsger"]}',
      '{"greeting": "Welcome, Ada!", "before you": []}',
      'greeter is as it was: nothing has changed.',
      /^greeter +True +Auto +2 +/m,
      /wake +\S+ ms {2}cold/,
      '{"greeting": "Welcome, Edsger!", "before you": []}',
      /esb: greeter .*No module named 'no_such_module'/s,
      'exit code 1',
      '{"greeting": "Welcome, Grace!", "before you": ["Edsger"]}',
      /^==> greeter-latest-\d <==\n(.*\n)*?\[ERROR\] Runtime.ImportModuleError/m,
      /Ready=False \w+: .*greeter-latest-\d/,
    ]) {
      expect(shown).toMatch(wanted);
    }
  });

  it('the tutorial of versions can be followed to its end, and shows what it says', { timeout: 300_000 }, async () => {
    const lines = linesOf('docs/tutorial/versions.md').map((line) => line.replaceAll('../teller', '"$TMPDIR/teller"'));
    expect(lines.length).toBeGreaterThan(20);
    const shown = await follow(lines);
    for (const wanted of [
      '{"greeting":"Hello, Ada!","before you":[]}',
      '{"greeting":"Good morning, Grace!","before you":[]}',
      '{"greeting":"Hello, Grace!","before you":["Ada"]}',
      /^ +\d+ x-amz-executed-version: 1/im,
      /^ +\d+ x-amz-executed-version: 2/im,
      'Good morning, Edsger!',
      'Hello, Barbara!',
      /^3 .*teller@sha256/m,
      '{"greeting":"Good morning, Jean!","before you":[]}',
      /esb: teller cannot become up to date: .*Runtime\.UserCodeSyntaxError: .*\/index\.mjs:\d+/,
      /teller rolled back to revision \d/,
      '"teller" successfully rolled out',
      '{"greeting":"Good morning, Kathleen!","before you":["Jean"]}',
    ]) {
      expect(shown).toMatch(wanted);
    }
  });

  it('a folder is deployed, and fields are kept, as docs/how-to/deploy.md says', { timeout: 300_000 }, async () => {
    const shown = await follow(withFolders(linesOf('docs/how-to/deploy.md')));
    expect(shown).toMatch(/greeter is up to date\..*lambdafunction.esb.dev\/greeter patched.*up to date\..*^5$/ms);
  });

  it('functions are made and called as docs/how-to/functions.md says', { timeout: 300_000 }, async () => {
    const clients = await ensurePythonClients(createProgress({ write: () => undefined }));
    const lines = linesOf('docs/how-to/functions.md').map((line) =>
      line
        // Packages that pip would bring, for machines that do not reach PyPI.
        .replace(/^pip install .*$/, `echo 'emojize = lambda text: text' > "$work/shout/var/task/emoji.py"`)
        .replace(/^aws lambda/, `${clients.python} -m awscli lambda`)
        .replace(/^python3 - /, `${clients.python} - `)
        .replace(/ \.esb\//, ` ${esb.home}/`),
    );
    expect(lines.filter((line) => line.startsWith(`${clients.python} -`))).toHaveLength(2);
    const shown = await follow([
      `export PYTHONPATH=${clients.packages}`,
      ...lines.filter((line) => !aboutInstance.test(line)),
    ]);
    for (const wanted of [
      '{"shout": "HI :thumbs_up:"}',
      /\{"id":"[-0-9a-f]{36}","name":"Ada"\}/,
      '"name":"Grace"}',
      '{"shout": "PLAIN :thumbs_up:"}',
      '{"shout": "EMULATED :thumbs_up:"}',
      '{"shout": "CHANGED! :thumbs_up:"}',
      '"StatusCode": 200',
      '{"shout": "CLI! :thumbs_up:"}',
      "{'shout': 'BOTO3! :thumbs_up:'}",
      '"name":"one of two"}',
      '"name":"the first version"}',
      '"name":"the second version"}',
    ]) {
      expect(shown).toMatch(wanted);
    }
  });

  it('what is wrong can be found out as docs/how-to/debug.md says', { timeout: 300_000 }, async () => {
    // The status shows how the process ended the last time.
    const { status } = await esb.worker('hello');
    const kill = ['tasks', 'kill', '--signal', 'SIGKILL', status?.containerID ?? ''];
    await esb.ctr(kill, status?.assignment?.nodeName);
    await esb.waitForWorker('hello', 'restarted', (worker) => (worker.status?.restartCount ?? 0) > 0);
    // Nodes lie apart from the machine here, and doctor asks the machine.
    const lines = linesOf('docs/how-to/debug.md').filter((line) => line !== 'esb doctor');
    const shown = await follow(lines);
    for (const wanted of [
      /"message": "hello from hello"/,
      /Type: +Scheduled/,
      /"exitCode":137,"finishedAt":".*","message":/,
      /^node-1 +True/m,
      /Type: +ContainerdReady/,
      /agent-node-1 +healthy/,
      /^CONTAINER +IMAGE +RUNTIME/m,
    ]) {
      expect(shown).toMatch(wanted);
    }
  });

  it('logs are read as docs/how-to/logs.md says', { timeout: 300_000 }, async () => {
    // The container before the present one has a log.
    const { status } = await esb.worker('hello');
    await esb.patch('hello', { env: [{ name: 'PAGE', value: 'logs' }] });
    await esb.waitForWorker(
      'hello',
      'in another container',
      (worker) => worker.status?.containerID !== undefined && worker.status.containerID !== status?.containerID,
    );
    await esb.ready('hello');
    const { requestId } = await esb.invoke('hello', { print: 'a line of one call' });
    const lines = linesOf('docs/how-to/logs.md').map((line) =>
      line
        .replace('8f0c…', requestId ?? '')
        // Shows what comes until somebody ends it.
        .replace(/^esb (logs \S+ -f [^#]*).*$/, 'timeout 10 esb $1 || test $? = 124'),
    );
    expect(lines.filter((line) => line.includes('timeout'))).toHaveLength(1);
    const shown = await follow(lines);
    expect(shown.split('a line of one call').length - 1).toBe(5);
    // The runtime of the image is called without its emulator.
    expect(shown).not.toContain('(rapid)');
  });
});
