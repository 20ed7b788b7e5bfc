import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { ensureSampleImage } from '../../../local/image/sample-image.ts';
import { createProgress } from '../../../src/cli/progress.ts';
import { goProgram } from '../../support/built-program.ts';
import { type InitWorker, type InitWorkerOptions, importLayout, startInitWorker } from '../../support/init-lab.ts';
import { type Lab, startLab } from '../../support/lab.ts';
import { toolsFolder } from '../../support/tools.ts';

const goRuntime = fileURLToPath(new URL('../../support/test-runtime', import.meta.url));

/** Variables that runtime clients read. */
const lambdaEnvironment = {
  AWS_LAMBDA_FUNCTION_NAME: 'tried',
  AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
  AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '128',
  AWS_LAMBDA_LOG_GROUP_NAME: '/aws/lambda/tried',
  AWS_LAMBDA_LOG_STREAM_NAME: 'one',
  AWS_REGION: 'us-east-1',
};

/** A runtime client, and what it is asked for: to sleep, and to end. */
interface Client {
  readonly options: Omit<InitWorkerOptions, 'image'> & { readonly sample: 'python-counter' | 'nodejs-counter' };
  readonly sleep: (seconds: number) => object;
  readonly exit: object;
}

const clients: Readonly<Record<string, () => Promise<Client>>> = {
  'awslambdaric of Python': async () => ({
    options: { sample: 'python-counter', argv: ['python3', '-m', 'awslambdaric', 'lambda_function.handler'] },
    sleep: (sleep) => ({ sleep }),
    exit: { exit: 3 },
  }),
  'the client of the image nodejs-base': async () => ({
    options: { sample: 'nodejs-counter', argv: ['node', '/var/runtime/bootstrap.mjs', 'index.handler'] },
    sleep: (sleep) => ({ sleep }),
    exit: { exit: 3 },
  }),
  'net/http of Go': async () => ({
    options: {
      sample: 'python-counter',
      argv: ['/fixture/runtime'],
      files: { runtime: await readFile(await goProgram('test-runtime', goRuntime)) },
    },
    sleep: (seconds) => ({ sleepMs: seconds * 1_000 }),
    exit: { exit: true },
  }),
};

describe.each(Object.entries(clients))('%s under the init', (_, clientOf) => {
  let lab: Lab;
  let client: Client;
  let image: string;

  beforeAll(async () => {
    lab = await startLab();
    client = await clientOf();
    const progress = createProgress({ write: () => undefined });
    const { layout } = await ensureSampleImage(client.options.sample, { progress, tools: toolsFolder() });
    image = await importLayout(lab, layout, 'sample/client:1');
  }, 120_000);
  afterAll(() => lab?.close());

  const start = async (perWorker = 1): Promise<InitWorker> => {
    const more =
      perWorker === 1
        ? { env: lambdaEnvironment }
        : {
            env: { ...lambdaEnvironment, AWS_LAMBDA_MAX_CONCURRENCY: String(perWorker) },
            flags: ['--concurrency', String(perWorker)],
          };
    const worker = await startInitWorker(lab, { image, ...client.options, ...more });
    onTestFinished(async () => {
      await worker.agent.die();
      await lab.ctr('tasks', 'rm', '--force', worker.id).catch(() => undefined);
      await lab.ctr('containers', 'rm', worker.id).catch(() => undefined);
    });
    await worker.agent.idle();
    return worker;
  };
  const answered = { kind: 'Answered' };

  it('answers, cold, warm, frozen, and after a timeout and its own end', async () => {
    const worker = await start();
    expect((await worker.agent.call({})).facts.outcome).toEqual(answered);
    expect((await worker.agent.call({})).facts.outcome).toEqual(answered);
    await worker.pause();
    const id = worker.agent.send({});
    await worker.resume();
    expect((await worker.agent.ended(id)).facts.outcome).toEqual(answered);
    worker.agent.forget(id);
    const late = await worker.agent.call(client.sleep(20), { timeoutMs: 500 });
    expect(late.facts.outcome?.kind).toBe('Timeout');
    await worker.agent.idle();
    expect((await worker.agent.call({})).facts.outcome).toEqual(answered);
    expect((await worker.agent.call(client.exit)).facts.outcome?.kind).toBe('Exited');
    await worker.agent.idle();
    expect((await worker.agent.call({})).facts.outcome).toEqual(answered);
  });

  it('runs several calls at once where its worker is made for that, and goes on after the timeout of one', async () => {
    const worker = await start(4);
    await worker.agent.until('four places', () => worker.agent.phase?.places === 4);
    const late = worker.agent.send(client.sleep(4), { timeoutMs: 1_000 });
    const ids = Array.from({ length: 3 }, () => worker.agent.send(client.sleep(2)));
    await worker.agent.until('all to run', () => {
      const running = new Set(worker.agent.events.filter((event) => event.endsWith('Running')));
      return running.size === 4;
    });
    expect((await worker.agent.ended(late)).facts.outcome?.kind).toBe('Timeout');
    expect(worker.agent.phase).toMatchObject({ places: 4, held: 1 });
    for (const id of ids) {
      expect((await worker.agent.ended(id)).facts.outcome).toEqual(answered);
    }
    await worker.agent.until('the place to be free', () => worker.agent.phase?.held === 0);
    expect((await worker.agent.call({})).facts.outcome).toEqual(answered);
    expect(await worker.agent.idle()).toMatchObject({ restarts: 0, places: 4 });
  });

  it.each([
    ['parked', async () => undefined],
    ['frozen', async (worker: InitWorker) => await worker.pause()],
    ['busy', async (worker: InitWorker) => worker.agent.send(client.sleep(1), { id: 'busy' })],
  ])('that is %s lives over an agent that is killed', async (state, bring) => {
    const worker = await start();
    const before = [...(await worker.processes()).keys()];
    await bring(worker);
    if (state === 'busy') {
      await worker.agent.until('the call to run', () => worker.agent.events.includes('C busy Running'));
    }
    for (let round = 0; round < 3; round += 1) {
      await worker.agent.die();
      await worker.agent.listen();
      if (state !== 'frozen') {
        await worker.agent.until('the worker to be back', () => worker.agent.phase);
      }
    }
    if (state === 'frozen') {
      await worker.resume();
    }
    if (state === 'busy') {
      expect((await worker.agent.ended('busy')).facts.outcome).toEqual(answered);
      worker.agent.forget('busy');
    }
    await worker.agent.idle();
    expect((await worker.agent.call({})).facts.outcome).toEqual(answered);
    expect([...(await worker.processes()).keys()]).toEqual(before);
  });
});
