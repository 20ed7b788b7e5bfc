import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { goProgram } from '../../support/built-program.ts';
import { type DockerLab, startDockerLab } from '../../support/docker-lab.ts';
import { InitAgent } from '../../support/init-agent.ts';
import { initProgram } from '../../support/init-lab.ts';
import { testImage } from '../../support/test-image.ts';

const goRuntime = fileURLToPath(new URL('../../support/test-runtime', import.meta.url));

let lab: DockerLab;
beforeAll(async () => {
  lab = await startDockerLab();
}, 120_000);
afterAll(() => lab?.close());

it('the init serves a container of Docker, over a timeout, a pause and an agent that is killed', async () => {
  const content = await readFile(await goProgram('test-runtime', goRuntime));
  const image = lab.registry.put(
    'go:1',
    await testImage({ files: [{ path: '/runtime', content, mode: 0o755 }], entrypoint: null, user: '993:990' }),
  );
  const folder = join(lab.folder, 'init-1');
  await mkdir(folder);
  const agent = new InitAgent(join(folder, 'agent.sock'));
  await agent.listen();
  await lab.docker(
    ...['run', '--detach', '--name', 'init-1', '--network', 'none', '--entrypoint', '/.esb/init'],
    ...['--volume', `${await initProgram()}:/.esb/init:ro`, '--volume', `${folder}:/.esb/run:ro`],
    ...[image, '--socket', '/.esb/run/agent.sock', '--', '/runtime'],
  );
  try {
    await agent.idle();
    expect((await agent.call({ print: 'hello\n' })).facts.outcome).toEqual({ kind: 'Answered' });
    expect((await agent.call({ sleepMs: 20_000 }, { timeoutMs: 500 })).facts.outcome?.kind).toBe('Timeout');
    await agent.idle();
    await lab.docker('pause', 'init-1');
    await agent.die();
    await agent.listen();
    await lab.docker('unpause', 'init-1');
    expect((await agent.idle()).restarts).toBe(1);
    expect((await agent.call({})).facts.outcome).toEqual({ kind: 'Answered' });
    expect(await lab.docker('logs', 'init-1')).toContain('START RequestId: call-1 Version: $LATEST\nhello\nEND');
  } finally {
    await agent.die();
    await lab.docker('rm', '--force', 'init-1');
  }
});
