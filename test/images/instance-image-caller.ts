import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InvokeCommand, LambdaClient } from '@aws-sdk/client-lambda';
import { type Home, homeAt } from '../../local/common/home.ts';
import { repositoryRoot } from '../../local/common/repository.ts';
import { readInstanceState } from '../../local/instance/instance-state.ts';
import { createSupervisorClient } from '../../local/supervisor/supervisor-client.ts';
import { type LambdaWorker, lambdaWorkers } from '../../src/api/lambda-worker.ts';
import type { KubeClient } from '../../src/kube/api/types.ts';
import { createKubeClient } from '../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../src/kube/client/kube-config.ts';
import { run } from '../support/command.ts';
import { waitFor } from '../support/wait-for.ts';
import { type CallEnd, type CalledWorker, type ImageCaller, TIMEOUT_SECONDS } from './image-caller.ts';
import type { FunctionAnswer, Shape } from './shapes.ts';

const AGENT = 'agent-node-1';
/** Milliseconds in which the instance has to do what it is asked for. */
const PATIENCE_MS = 90_000;
/** Reasons of conditions that tell of an image which does not run here. */
const REFUSED = /Invalid|Failed|NotFound|WrongPlatform/;

/** Runs images in a whole local instance, as users do: workers by kubectl, calls by the AWS SDK as it is. */
export async function startInstanceImageCaller(): Promise<ImageCaller> {
  // Paths of Unix sockets below it must stay under 108 bytes.
  const root = await mkdtemp('/tmp/esb-images-');
  const home = homeAt(join(root, 'home'));
  const esb = (...args: readonly string[]): Promise<unknown> =>
    run(process.execPath, [join(repositoryRoot(), 'local/main.ts'), ...args], {
      env: { ESB_HOME: home.root },
      timeoutMs: 300_000,
    });
  const down = async (): Promise<void> => {
    await esb('down');
    await rm(root, { recursive: true, force: true });
  };
  try {
    await esb('up', '--nodes', '1', '--gateways', '1', '--controllers', '1', '--no-sample');
  } catch (error) {
    await down();
    throw error;
  }
  const { ports = {} } = (await readInstanceState(home.stateFile)) ?? {};
  const parts: InstanceParts = {
    home,
    client: createKubeClient({ source: createKubeConnectionSource({ kubeconfig: home.kubeconfig }) }),
    lambda: new LambdaClient({
      endpoint: `http://127.0.0.1:${ports['gateway-1']}`,
      region: 'us-east-1',
      credentials: { accessKeyId: 'test', secretAccessKey: 'test' },
      // Retries would hide what happened.
      maxAttempts: 1,
    }),
  };
  return {
    async start(shape, { layout }) {
      const image = `127.0.0.1:${ports.registry}/images/${shape.name}:1`;
      await run(join(home.root, 'bin/crane'), ['push', '--insecure', layout, image]);
      const worker = instanceWorker(parts, shape);
      await kubectl(parts, ['apply', '-f', '-'], JSON.stringify(resourceOf(shape, image)));
      try {
        await untilReady(parts, shape.name);
      } catch (error) {
        await worker.remove();
        throw error;
      }
      return worker;
    },
    async close() {
      parts.lambda.destroy();
      await parts.client.close();
      await down();
    },
  };
}

interface InstanceParts {
  readonly home: Home;
  readonly client: KubeClient;
  readonly lambda: LambdaClient;
}

function kubectl({ home }: InstanceParts, args: readonly string[], input?: string): Promise<unknown> {
  return run(join(home.root, 'bin/kubectl'), args, {
    env: { KUBECONFIG: home.kubeconfig },
    ...(input === undefined ? {} : { input }),
  });
}

function resourceOf(shape: Shape, image: string): object {
  return {
    apiVersion: 'esb.dev/v1alpha1',
    kind: 'LambdaWorker',
    metadata: { name: shape.name },
    spec: {
      image,
      runtimeInterface: 'Lambda',
      timeoutSeconds: TIMEOUT_SECONDS,
      readOnlyRootFilesystem: shape.readOnlyRoot === true,
      resources: { limits: { memory: '512Mi' } },
    },
  };
}

function workerOf({ client }: InstanceParts, name: string): Promise<LambdaWorker | undefined> {
  return client.get(lambdaWorkers, { namespace: 'default', name });
}

/** Waits until a worker can be called. Throws the message of a condition that says why it cannot. */
async function untilReady(parts: InstanceParts, name: string): Promise<void> {
  const refused = await waitFor(
    `worker ${name} to be ready`,
    async () => {
      const conditions = (await workerOf(parts, name))?.status?.conditions ?? [];
      const ready = conditions.find(({ type }) => type === 'Ready');
      if (ready?.status === 'True') {
        return { message: undefined };
      }
      const bad = conditions.find(({ status, reason }) => status === 'False' && REFUSED.test(reason));
      return bad === undefined ? undefined : { message: `${bad.type} ${bad.reason}: ${bad.message}` };
    },
    { timeoutMs: PATIENCE_MS, everyMs: 50 },
  );
  if (refused.message !== undefined) {
    throw new Error(refused.message);
  }
  await waitFor(`the gateway to know ${name}`, async () => {
    const answer = await parts.lambda
      .send(new InvokeCommand({ FunctionName: name, InvocationType: 'DryRun' }))
      .catch(() => undefined);
    return answer?.StatusCode === 204;
  });
}

function instanceWorker(parts: InstanceParts, shape: Shape): CalledWorker {
  const { name } = shape;
  const supervisor = createSupervisorClient(parts.home.supervisorSocket);
  let paused = false;
  const patch = (desiredState: string): Promise<unknown> =>
    kubectl(parts, ['patch', 'lw', name, '--type=merge', '-p', JSON.stringify({ spec: { desiredState } })]);
  return {
    async call(event) {
      const payload = JSON.stringify(shape.words?.event(event) ?? event);
      const answer = await parts.lambda.send(new InvokeCommand({ FunctionName: name, Payload: payload }));
      if (paused) {
        paused = false;
        await patch('Running');
      }
      return endOf(shape, answer.FunctionError, JSON.parse(Buffer.from(answer.Payload ?? []).toString()));
    },
    async pause() {
      await patch('Paused');
      await waitFor(`${name} to be paused`, async () => (await workerOf(parts, name))?.status?.phase === 'Paused', {
        timeoutMs: PATIENCE_MS,
        everyMs: 50,
      });
      paused = true;
    },
    async restartAgent() {
      // By hand: the supervisor itself waits ever longer with a part that ends often.
      await supervisor.stopPart(AGENT, { with: 'SIGKILL' });
      await supervisor.startPart(AGENT);
      await waitFor(
        'a healthy agent',
        async () => {
          const { parts: all } = await supervisor.status();
          return all.find((part) => part.name === AGENT)?.health === 'healthy';
        },
        { timeoutMs: PATIENCE_MS, everyMs: 50 },
      );
    },
    async remove() {
      await kubectl(parts, ['delete', 'lw', name, '--timeout=60s']);
    },
  };
}

function endOf(shape: Shape, functionError: string | undefined, payload: unknown): CallEnd {
  if (functionError === undefined) {
    return { kind: 'Answered', answer: shape.words?.answer(payload) ?? (payload as FunctionAnswer) };
  }
  const message = JSON.stringify(payload);
  const { errorType } = payload as { readonly errorType?: string };
  if (errorType === 'Sandbox.Timedout') {
    return { kind: 'Timeout' };
  }
  return errorType === 'Esb.OutcomeUnknown' ? { kind: 'Unknown', message } : { kind: 'Failed', message };
}
