import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { LambdaWorker } from '../../../src/api/lambda-worker.ts';
import { type AgentLab, startAgentLab } from '../../support/agent-lab.ts';
import { testImage, workerFiles } from '../../support/test-image.ts';
import { waitFor } from '../../support/wait-for.ts';

function condition(worker: LambdaWorker, type: string): { reason: string; message: string; status: string } {
  const found = worker.status?.conditions?.find((each) => each.type === type);
  return { reason: found?.reason ?? '', message: found?.message ?? '', status: found?.status ?? '' };
}

describe('images and Secrets of a node with the real agent', () => {
  let lab: AgentLab;
  let count = 0;

  beforeAll(async () => {
    lab = await startAgentLab();
    await lab.startAgent();
    await lab.untilServing();
  });
  afterAll(async () => {
    await lab?.close();
  });
  afterEach(() => {
    lab.lab.registry.credentials = undefined;
    lab.lab.registry.pace = undefined;
  });

  const waitForCondition = async (name: string, type: string, reason: string): Promise<LambdaWorker> =>
    await lab.waitForWorker(name, `to have ${type} ${reason}`, (worker) => condition(worker, type).reason === reason);
  /** Runs the commands of a condition as they are, as a user does. */
  const runCommandsOf = async (message: string): Promise<void> => {
    for (const [, command = ''] of message.matchAll(/kubectl (-n \S+ create role.*?)(?= &&|;|$)/g)) {
      await lab.api.kubectl(command.split(' '));
    }
  };
  /** An answer of the API server that takes long serves only the start after, so that one start may be as before. */
  const startAgainUntil = async (
    name: string,
    isWanted: (worker: LambdaWorker) => boolean | Promise<boolean>,
  ): Promise<void> => {
    await waitFor(`${name} to start as wanted`, async () => {
      await lab.patch(name, { spec: { desiredState: 'Absent' } });
      await lab.waitForPhase(name, 'Absent');
      await lab.patch(name, { spec: { desiredState: 'Running' } });
      return isWanted(
        await lab.waitForWorker(name, 'to start or fail', ({ status }) =>
          /^(Running|Failed)$/.test(status?.phase ?? ''),
        ),
      );
    });
  };
  const fresh = async (ballastBytes = 0): Promise<string> => {
    count += 1;
    return lab.lab.registry.put(
      `agent-${count}:1`,
      await testImage({
        env: [`COUNT=${count}`],
        files: [...(await workerFiles()), { path: '/opt/ballast', content: randomBytes(ballastBytes) }],
      }),
    );
  };
  const secretOf = async (name: string, password: string): Promise<void> => {
    const secret = await lab.api.kubectl([
      ...['create', 'secret', 'docker-registry', name, '--dry-run=client', '-o', 'yaml'],
      ...['--docker-username=me', `--docker-password=${password}`, `--docker-server=${lab.lab.registry.host}`],
    ]);
    await lab.api.kubectl(['apply', '-f', '-'], secret);
  };
  const environmentOf = async (worker: LambdaWorker): Promise<unknown> =>
    (JSON.parse((await lab.invoke(worker)).body) as { readonly env: unknown }).env;

  it('runs what a tag means now, once imageLookup changes', async () => {
    const image = await fresh();
    await lab.apply('moved', { image });
    const before = await lab.waitForPhase('moved', 'Running');
    const tag = image.slice(image.lastIndexOf('/') + 1);
    lab.lab.registry.put(tag, await testImage({ env: ['COUNT=moved'], files: await workerFiles() }));
    // Without the policy that the laboratory writes, which comes before the lookup.
    await lab.patch('moved', { spec: { imagePullPolicy: null, imageLookup: 'again' } });
    const after = await lab.waitForWorker(
      'moved',
      'to run another image',
      ({ status }) => status?.phase === 'Running' && status.image !== before.status?.image,
    );
    expect(after.spec.image).toBe(image);
    expect(after.status?.image).toMatch(/@sha256:/);
    await lab.remove('moved');
  });

  it('a variable from a Secret wants a grant, says which, has its value then, and loses it with the grant', async () => {
    await lab.api.kubectl(['create', 'secret', 'generic', 'greeting', '--from-literal=text=moin']);
    const secretKeyRef = { name: 'greeting', key: 'text', optional: false };
    await lab.apply('greeter', { env: [{ name: 'GREETING', valueFrom: { secretKeyRef } }] });

    const refused = await waitForCondition('greeter', 'Ready', 'SecretForbidden');
    expect(refused.status?.phase).toBe('Failed');
    // The trial of /tmp, which the agent makes as it starts, may still be there.
    expect(await lab.lab.ctr('containers', 'list', '-q', 'labels."esb.dev/tmp-trial"!=true')).toBe('');
    await runCommandsOf(condition(refused, 'Ready').message);
    const granted = await lab.waitForPhase('greeter', 'Running');
    expect(await environmentOf(granted)).toMatchObject({ GREETING: 'moin' });

    // A Secret that changes is that of the next start; what runs keeps what it was given.
    await lab.api.kubectl(['patch', 'secret', 'greeting', '-p', '{"stringData":{"text":"tach"}}']);
    expect(await environmentOf(granted)).toMatchObject({ GREETING: 'moin' });
    const hasNewValue = async (worker: LambdaWorker): Promise<boolean> =>
      ((await environmentOf(worker)) as Readonly<Record<string, string>>).GREETING === 'tach';
    await startAgainUntil('greeter', hasNewValue);

    await lab.api.kubectl(['delete', 'rolebinding', 'esb-secret-greeting']);
    await startAgainUntil('greeter', (worker) => condition(worker, 'Ready').reason === 'SecretForbidden');
    await lab.remove('greeter');
  });

  it('a private image wants a grant and the right credentials, and says what is missing at each step', async () => {
    const image = await fresh();
    lab.lab.registry.credentials = { username: 'me', password: 'right' };
    const spec = { image, imagePullSecrets: [{ name: 'regcred' }] };
    await lab.apply('private', spec);

    const forbidden = await waitForCondition('private', 'ImageReady', 'PullSecretForbidden');
    await runCommandsOf(condition(forbidden, 'ImageReady').message);
    // Granted, and not there: as with the kubelet that alone is no error, the image might be public.
    const missing = await waitForCondition('private', 'ImageReady', 'ImagePullFailed');
    expect(condition(missing, 'ImageReady').message).toContain('pull secrets that do not exist: regcred');
    await secretOf('regcred', 'wrong');
    const refused = () =>
      lab.waitForWorker('private', 'to be refused', (worker) => {
        const { reason, message } = condition(worker, 'ImageReady');
        return reason === 'ImagePullFailed' && !message.includes('do not exist');
      });
    expect(condition(await refused(), 'ImageReady').message).toContain('the registry refuses the credentials');
    // A new pull has failed once, and the next attempt is 2 s away in place of 8.
    await lab.remove('private');
    await lab.apply('private', spec);
    await refused();
    await secretOf('regcred', 'right');
    const running = await lab.waitForPhase('private', 'Running');
    expect(running.status?.image).toMatch(/^127\.0\.0\.1:\d+\/agent-\d+@sha256:[0-9a-f]{64}$/);
    expect(condition(running, 'ImageReady')).toMatchObject({ status: 'True', reason: 'Present' });

    // An image that is here needs no Secret any more: a cold start reads none.
    await lab.api.kubectl(['delete', 'rolebinding', 'esb-secret-regcred']);
    await lab.patch('private', { spec: { desiredState: 'Absent' } });
    await lab.waitForPhase('private', 'Absent');
    expect(await lab.invoke(await lab.worker('private'))).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
    await lab.remove('private');
  });

  it('the agent itself may read no Secret that is not granted', async () => {
    const local = ['--as=esb:agent:node-1', '--as-group=esb:agents'];
    const inCluster = ['--as=system:serviceaccount:esb-system:esb-agent'];
    const answerTo = async (who: readonly string[], what: readonly string[]): Promise<string> =>
      await lab.api.kubectl(['auth', 'can-i', ...what, ...who]).then(
        (text) => text.trim(),
        () => 'no',
      );
    const canI = async (...what: readonly string[]): Promise<string> => {
      const answers = await Promise.all([local, inCluster].map((who) => answerTo(who, what)));
      return [...new Set(answers)].join(' or ');
    };
    expect(await canI('get', 'secrets/other', '-n', 'default')).toBe('no');
    expect(await canI('list', 'secrets', '-A')).toBe('no');
    await lab.api.kubectl(['apply', '-f', 'manifests/samples/secret-grant.yaml']);
    // The API server learns of its own rules by a watch.
    await waitFor(
      'the grant to hold',
      async () => (await answerTo(inCluster, ['get', 'secrets/regcred', '-n', 'default'])) === 'yes',
    );
    expect(await answerTo(local, ['get', 'secrets/regcred', '-n', 'default'])).toBe('no');
    expect(await canI('get', 'secrets/other', '-n', 'default')).toBe('no');
    expect(await canI('get', 'secrets/regcred', '-n', 'esb-system')).toBe('no');
  });

  it('a pull shows how far it is', async () => {
    const image = await fresh(8 * 2 ** 20);
    lab.lab.registry.pace = { bytes: 2 ** 20, everyMs: 1_500 };
    await lab.apply('big', { image });
    const pulling = await lab.waitForWorker('big', 'to be pulled in parts', (worker) =>
      / of \d+\.\d MiB/.test(condition(worker, 'ImageReady').message),
    );
    expect(pulling.status?.phase).toBe('Pulling');
    expect(condition(pulling, 'ImageReady')).toMatchObject({ status: 'False', reason: 'Pulling' });
    lab.lab.registry.pace = undefined;
    await lab.waitForPhase('big', 'Running');
    await lab.remove('big');
  });

  it('a registry that is down is tried again, and the worker says when', async () => {
    const image = await fresh();
    await lab.lab.registry.takeDown();
    try {
      await lab.apply('patient', { image });
      const waiting = await waitForCondition('patient', 'ImageReady', 'RegistryUnreachable');
      expect(condition(waiting, 'ImageReady').message).toMatch(/; next attempt in \d+ s$/);
      expect(waiting.status?.phase).toBe('Failed');
    } finally {
      await lab.lab.registry.bringUp();
    }
    await lab.waitForPhase('patient', 'Running');
    await lab.remove('patient');
  });

  it('a full disk loses the images that no worker wants, and no others', async () => {
    const [kept, gone] = [await fresh(), await fresh()];
    await lab.apply('keeper', { image: kept });
    await lab.apply('goer', { image: gone });
    await Promise.all(['keeper', 'goer'].map((name) => lab.waitForPhase(name, 'Running')));
    await lab.patch('keeper', { spec: { desiredState: 'Absent' } });
    await lab.waitForPhase('keeper', 'Absent');
    await lab.remove('goer');
    const images = async (): Promise<readonly string[]> => (await lab.lab.ctr('images', 'list', '-q')).split('\n');
    expect(await images()).toContain(gone);

    await lab.stopAgent();
    await lab.startAgent(['--image-gc-high', '1', '--image-gc-low', '0', '--image-gc-min-age', '0']);
    await lab.untilServing();
    // containerd does not list it any more some time before it has cleared away what it took.
    await waitFor('the image that nobody wants to be removed', () =>
      lab.log().some(({ image, msg }) => image === gone && msg === 'removed an unused image to make room'),
    );
    expect(await images()).not.toContain(gone);
    expect(await images()).toContain(kept);
    expect(await lab.health('/metrics')).toMatch(/^esb_agent_images_removed_total [1-9]/m);
    expect(await lab.invoke(await lab.worker('keeper'))).toMatchObject({ outcome: 'OUTCOME_ANSWERED' });
    await lab.remove('keeper');
  });
});
