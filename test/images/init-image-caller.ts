import { basename } from 'node:path';
import type { ImageRunConfig } from '../../local/image/image-layout.ts';
import { type InitWorker, importLayout, startInitWorker } from '../support/init-lab.ts';
import { destroyAll, ensureRequest, type Lab, startLab } from '../support/lab.ts';
import { layoutImage } from '../support/test-image.ts';
import { waitFor } from '../support/wait-for.ts';
import { type CalledWorker, type ImageCaller, TIMEOUT_SECONDS } from './image-caller.ts';
import type { FunctionAnswer, Shape } from './shapes.ts';

/** Variables that every worker has. */
const lambdaEnvironment = {
  AWS_LAMBDA_FUNCTION_NAME: 'tried',
  AWS_LAMBDA_FUNCTION_VERSION: '$LATEST',
  AWS_LAMBDA_FUNCTION_MEMORY_SIZE: '512',
  AWS_LAMBDA_LOG_GROUP_NAME: '/aws/lambda/tried',
  AWS_LAMBDA_LOG_STREAM_NAME: 'one',
  AWS_REGION: 'us-east-1',
  LAMBDA_TASK_ROOT: '/var/task',
};

/** Runs images on real containerd and runc with the init as process 1. The test plays the agent. */
export async function startInitImageCaller(): Promise<ImageCaller> {
  const lab = await startLab();
  return {
    async start(shape, { layout }) {
      if (shape.architecture !== undefined) {
        await expectRefusal(lab, shape, layout);
      }
      const image = await importLayout(lab, layout, `images/${shape.name}:1`);
      const worker = await startInitWorker(lab, {
        image,
        argv: commandOf(shape.run),
        env: environmentOf(shape.run),
        runFlags: [
          ...['--mount', 'type=tmpfs,dst=/tmp,options=mode=1777'],
          ...(shape.readOnlyRoot === true ? ['--read-only'] : []),
        ],
      });
      try {
        const told = await worker.agent.until('the end of the initialization', () =>
          worker.agent.phase?.idle === true || worker.agent.phase?.phase === 'Failed' ? worker.agent.phase : undefined,
        );
        if (told.phase === 'Failed') {
          throw new Error(JSON.stringify(told.fault));
        }
      } catch (error) {
        const log = await worker.log();
        await remove(lab, worker);
        throw new Error(`${error instanceof Error ? error.message : String(error)}\n${log.slice(-2_000)}`, {
          cause: error,
        });
      }
      return calledWorker(lab, shape, worker);
    },
    close: () => lab.close(),
  };
}

/** The command of an image, without the emulator in front: the init takes its place. */
function commandOf({ Entrypoint, Cmd = [] }: ImageRunConfig): readonly string[] {
  const [first = '', ...rest] = [...Entrypoint, ...Cmd];
  return basename(first) === 'aws-lambda-rie' ? rest : [first, ...rest];
}

/** Variables of every worker and of the image. As in AWS, the last argument is the handler. */
function environmentOf(run: ImageRunConfig): Readonly<Record<string, string>> {
  const own = Object.fromEntries(run.Env.map((entry) => [entry.split('=')[0], entry.slice(entry.indexOf('=') + 1)]));
  const handler = commandOf(run).slice(1).at(-1);
  return { ...lambdaEnvironment, ...(handler === undefined ? {} : { _HANDLER: handler }), ...own };
}

/** Throws the reason for which ESB does not run an image. */
async function expectRefusal(lab: Lab, shape: Shape, layout: string): Promise<void> {
  const reference = lab.registry.put(`${shape.name}:1`, await layoutImage(layout));
  const runtime = await lab.runtime();
  try {
    await runtime.ensure(ensureRequest({ image: reference }, shape.name));
  } finally {
    await destroyAll(runtime);
  }
}

function calledWorker(lab: Lab, shape: Shape, worker: InitWorker): CalledWorker {
  const { agent } = worker;
  let paused = false;
  let calls = 0;
  return {
    async call(event) {
      if (!paused) {
        await agent.idle();
      }
      const id = `call-${++calls}`;
      const send = (): string =>
        agent.send(shape.words?.event(event) ?? event, { id, timeoutMs: TIMEOUT_SECONDS * 1_000 });
      send();
      if (paused) {
        paused = false;
        await worker.resume();
      }
      const end = await agent.ended(id);
      agent.forget(id);
      const { outcome } = end.facts;
      if (outcome?.kind === 'Answered') {
        return { kind: 'Answered', answer: answerOf(shape, end.answer) };
      }
      return outcome?.kind === 'Timeout'
        ? { kind: 'Timeout' }
        : { kind: 'Failed', message: `${JSON.stringify(outcome)}\n${await worker.log()}` };
    },
    async pause() {
      await agent.idle();
      await worker.pause();
      paused = true;
    },
    async restartAgent() {
      await agent.die();
      await agent.listen();
      await agent.until('the worker to be back', () => agent.phase);
    },
    async remove() {
      agent.stop(TIMEOUT_SECONDS * 1_000);
      await waitFor('the init to end', () => worker.ended(), { everyMs: 20 });
      await remove(lab, worker);
    },
  };
}

function answerOf(shape: Shape, answer: Buffer): FunctionAnswer {
  const payload: unknown = JSON.parse(answer.toString());
  return shape.words?.answer(payload) ?? (payload as FunctionAnswer);
}

async function remove(lab: Lab, worker: InitWorker): Promise<void> {
  await worker.agent.die();
  await lab.ctr('tasks', 'rm', '--force', worker.id).catch(() => undefined);
  await lab.ctr('containers', 'rm', worker.id).catch(() => undefined);
}
