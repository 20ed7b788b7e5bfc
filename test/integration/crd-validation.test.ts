import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { type ApiServer, startApiServer } from '../support/api-server.ts';
import { waitFor } from '../support/wait-for.ts';

const definitions = join(import.meta.dirname, '../../crds');

interface Manifest {
  readonly metadata: { readonly name: string };
  readonly [field: string]: unknown;
}

const lambdaFunction = (spec: object, name = 'made'): Manifest => ({
  apiVersion: 'esb.dev/v1alpha1',
  kind: 'LambdaFunction',
  metadata: { name },
  spec,
});
const worker = (spec: object, name = 'candidate'): Manifest => ({
  apiVersion: 'esb.dev/v1alpha1',
  kind: 'LambdaWorker',
  metadata: { name },
  spec: { image: 'hello:1', ...spec },
});

const hostNetwork = { network: { mode: 'Host' } };

/** An object to write, and a part of the API server's answer. */
const refused: readonly (readonly [string, object, string])[] = [
  ['no image', { image: undefined }, 'spec.image: Required value'],
  ['an empty image', { image: '' }, 'spec.image'],
  ['an image with a scheme', { image: 'https://registry.example/hello:1' }, 'leave out https:// or docker://'],
  ['an image with a space', { image: 'hello :1' }, 'must not contain spaces'],
  ['an image with capitals in its repository', { image: 'registry.example/Hello:1' }, 'is in lower case'],
  ['an image with an empty tag', { image: 'hello:' }, 'image must be a reference such as'],
  ['an image with a short digest', { image: 'hello@sha256:abc' }, '64 hexadecimal digits'],
  ['an unknown pull policy', { imagePullPolicy: 'Sometimes' }, 'supported values: "Always", "IfNotPresent", "Never"'],
  ['a function name with a dot', { functionName: 'a.b' }, "letters, digits, '-' or '_'|letters, digits, '-' and '_'"],
  ['a function name that is too long', { functionName: 'f'.repeat(65) }, 'may not be more than 64'],
  ['an empty function name', { functionName: '' }, 'spec.functionName'],
  ['a handler with a space', { handler: 'app .handler' }, 'such as lambda_function.handler'],
  ['memory in a wrong unit', { resources: { limits: { memory: '128MiB' } } }, 'a quantity of bytes such as 128Mi'],
  ['memory without a unit', { resources: { limits: { memory: 128 } } }, '128Mi is 128 mebibytes and 128 is 128 bytes'],
  ['more memory than any node has', { resources: { limits: { memory: '2Ti' } } }, 'from 6Mi to 1Ti'],
  ['cpu that is no quantity', { resources: { limits: { cpu: 'half' } } }, 'a quantity of cores such as 500m or 2'],
  ['cpu in thousandths without the letter', { resources: { limits: { cpu: 5000 } } }, '500m is half a core'],
  ['cpu of nothing', { resources: { limits: { cpu: 0 } } }, 'from 10m to 1000'],
  [
    'a request of cpu beyond its limit',
    { resources: { requests: { cpu: 1 }, limits: { cpu: '500m' } } },
    'at most limits.cpu',
  ],
  ['a request of cpu that is no quantity', { resources: { requests: { cpu: 'half' } } }, 'such as 250m or 2'],
  ['too few processes', { resources: { pids: 1 } }, 'spec.resources.pids: Invalid value: 1'],
  ['ephemeral storage of nothing', { ephemeralStorage: 0 }, 'from 1Mi to 64Gi'],
  ['ephemeral storage that is no quantity', { ephemeralStorage: 'big' }, 'a quantity of bytes such as 512Mi'],
  ['a timeout of nothing', { timeoutSeconds: 0 }, 'greater than or equal to 1'],
  ['a timeout above that of Lambda', { timeoutSeconds: 901 }, 'less than or equal to 900'],
  ['a timeout with a unit', { timeoutSeconds: '3s' }, 'must be of type integer'],
  ['a port that does not exist', { port: 70_000 }, 'less than or equal to 65535'],
  ['an unknown resting state', { desiredState: 'Stopped' }, 'supported values: "Running", "Paused", "Absent"'],
  ['an unknown wake policy', { wakePolicy: 'Always' }, 'supported values: "OnInvoke", "Never"'],
  [
    'removal before the pause',
    { idlePolicy: { pauseAfterSeconds: 60, removeAfterSeconds: 30 } },
    'removeAfterSeconds must be greater than pauseAfterSeconds',
  ],
  ['a pause after no time', { idlePolicy: { pauseAfterSeconds: 0 } }, 'greater than or equal to 1'],
  ['an unknown network mode', { network: { mode: 'None' } }, 'supported values: "Bridge", "Host"'],
  [
    'an unknown class of destinations',
    { network: { egress: 'Private' } },
    'supported values: "All", "Internet", "Cluster", "None"',
  ],
  [
    "a class of destinations on the host's network",
    { network: { mode: 'Host', egress: 'Internet' }, command: ['/usr/local/bin/aws-lambda-rie'] },
    'egress holds workers with an address of their own',
  ],
  ["the host's network without a command", hostNetwork, '--runtime-interface-emulator-address'],
  ["the host's network with an empty command", { ...hostNetwork, command: [] }, 'write network.mode Bridge'],
  ['an unknown runtime interface', { runtimeInterface: 'Http' }, 'supported values: "Lambda", "Emulator"'],
  [
    "Lambda's Runtime API on the host's network",
    { ...hostNetwork, command: ['/usr/local/bin/aws-lambda-rie'], runtimeInterface: 'Lambda' },
    'runtimeInterface Lambda needs network.mode Bridge',
  ],
  ['a start within no time', { startup: { timeoutSeconds: 0 } }, 'greater than or equal to 1'],
  ['a start that lasts longer than any call', { startup: { timeoutSeconds: 901 } }, 'less than or equal to 900'],
  ['levels of a log that is text', { logging: { systemLevel: 'WARN' } }, 'need format JSON, as in Lambda'],
  ['a level of the log that Lambda has not', { logging: { format: 'JSON', systemLevel: 'ERROR' } }, 'supported values'],
  ['a node name in capitals', { nodeName: 'Node_1' }, 'as `kubectl get lambdanodes` shows it'],
  [
    'a variable with value and source',
    {
      env: [{ name: 'A', value: '1', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } }],
    },
    'either value or valueFrom, not both',
  ],
  ['a variable that begins with a digit', { env: [{ name: '1A', value: '' }] }, 'does not begin with a digit'],
  ['a variable that the platform sets', { env: [{ name: '_HANDLER', value: 'x' }] }, 'write spec.handler for _HANDLER'],
  [
    'a source without its key',
    { env: [{ name: 'A', valueFrom: { secretKeyRef: { name: 's' } } }] },
    'key: Required value',
  ],
  ['two variables of one name', { env: [{ name: 'A' }, { name: 'A' }] }, 'Duplicate value'],
  ['a grace period below nothing', { terminationGracePeriodSeconds: -1 }, 'greater than or equal to 0'],
  ['a command in one string', { command: 'python3 app.py' }, 'must be of type array'],
  ['three retries of an Event', { asyncInvoke: { maximumRetryAttempts: 3 } }, 'less than or equal to 2'],
  ['an Event that is too old at once', { asyncInvoke: { maximumEventAgeSeconds: 59 } }, 'greater than or equal to 60'],
  ['an Event older than in Lambda', { asyncInvoke: { maximumEventAgeSeconds: 21_601 } }, 'less than or equal to 21600'],
  ['failures that go nowhere', { asyncInvoke: { onFailure: {} } }, 'write either functionName or url'],
  [
    'failures that go to two places',
    { asyncInvoke: { onFailure: { functionName: 'letters', url: 'http://letters.example/' } } },
    'write either functionName or url',
  ],
  [
    'failures that go to no function',
    { asyncInvoke: { onFailure: { functionName: 'a.b' } } },
    "letters, digits, '-' and '_'",
  ],
  [
    'failures that go back to the function by its own name',
    { functionName: 'self', asyncInvoke: { onFailure: { functionName: 'self' } } },
    'must be another function',
  ],
  [
    'failures that go back to the function by the name of the resource',
    { asyncInvoke: { onFailure: { functionName: 'candidate' } } },
    'must be another function',
  ],
  ['answers that go nowhere', { asyncInvoke: { onSuccess: {} } }, 'write either functionName or url'],
  [
    'answers that go to no function',
    { asyncInvoke: { onSuccess: { functionName: 'a.b' } } },
    "letters, digits, '-' and '_'",
  ],
  [
    'answers that go back to the function',
    { asyncInvoke: { onSuccess: { functionName: 'candidate' } } },
    'must be another function',
  ],
  [
    'answers that go to no address',
    { asyncInvoke: { onSuccess: { url: 'ftp://letters.example/' } } },
    'url is an absolute http:// or https:// address',
  ],
  ...['letters.example', 'ftp://letters.example/', 'http://', 'http://user:secret@letters.example/', 'http://a b/'].map(
    (url) =>
      [
        `failures that go to ${url}`,
        { asyncInvoke: { onFailure: { url } } },
        'url is an absolute http:// or https:// address',
      ] as const,
  ),
  ['no call at once', { concurrency: { perWorker: 0 } }, 'greater than or equal to 1'],
  ['more calls at once than any worker takes', { concurrency: { perWorker: 1_601 } }, 'less than or equal to 1600'],
  [
    'several calls at once with the emulator',
    { runtimeInterface: 'Emulator', concurrency: { perWorker: 2 } },
    'concurrency.perWorker above 1 needs runtimeInterface Lambda',
  ],
  [
    'several calls at once in the network of the node',
    { ...hostNetwork, command: ['/usr/local/bin/aws-lambda-rie'], concurrency: { perWorker: 2 } },
    'concurrency.perWorker above 1 needs runtimeInterface Lambda',
  ],
  ['a concurrency below nothing', { concurrency: { reserved: -1 } }, 'greater than or equal to 0'],
  ['an unknown effect', { tolerations: [{ key: 'a', effect: 'NoEntry' }] }, 'supported values: "NoSchedule"'],
  ['a toleration of nothing', { tolerations: [{ value: 'a' }] }, 'needs operator Exists'],
  [
    'a toleration of any value and of one',
    { tolerations: [{ key: 'a', operator: 'Exists', value: 'b' }] },
    'take value away, or write operator Equal',
  ],
  [
    'a time to stay in spite of a taint that drives nobody out',
    { tolerations: [{ key: 'a', operator: 'Exists', effect: 'NoSchedule', tolerationSeconds: 5 }] },
    'needs effect NoExecute',
  ],
  [
    'more tolerations than anybody reads',
    { tolerations: Array.from({ length: 33 }, (_, index) => ({ key: `a${index}` })) },
    'must have at most 32 items',
  ],
  ['a spread over nothing', { topologySpread: {} }, 'topologyKey: Required value'],
  [
    'a spread that allows no difference',
    { topologySpread: { topologyKey: 'zone', maxSkew: 0 } },
    'greater than or equal to 1',
  ],
  [
    'an unknown way out of a spread',
    { topologySpread: { topologyKey: 'zone', whenUnsatisfiable: 'Never' } },
    'supported values: "DoNotSchedule", "ScheduleAnyway"',
  ],
  ['a queue without end', { concurrency: { queueDepth: 10_001 } }, 'less than or equal to 10000'],
];

const accepted: readonly (readonly [string, object])[] = [
  ['the least', {}],
  ['an image by digest with a port', { image: `127.0.0.1:5000/team/hello:1@sha256:${'a'.repeat(64)}` }],
  ['memory as a number of bytes', { resources: { limits: { memory: 134_217_728 } } }],
  ['cpu as a number of cores', { resources: { limits: { cpu: 2 } } }],
  ["the host's network with a command", { ...hostNetwork, command: ['/usr/local/bin/aws-lambda-rie'] }],
  ["the host's network with args", { ...hostNetwork, args: ['--runtime-interface-emulator-address', '0.0.0.0:9000'] }],
  ["Lambda's Runtime API", { runtimeInterface: 'Lambda', startup: { timeoutSeconds: 900 } }],
  ['a log as JSON', { logging: { format: 'JSON', applicationLevel: 'FATAL', systemLevel: 'DEBUG' } }],
  ['an emulator', { runtimeInterface: 'Emulator', startup: {} }],
  [
    "an emulator on the host's network",
    { ...hostNetwork, command: ['/usr/local/bin/aws-lambda-rie'], runtimeInterface: 'Emulator' },
  ],
  ['removal alone', { idlePolicy: { removeAfterSeconds: 5 } }],
  ['any payload for the warm-up', { warmUp: { payload: { a: [1, null, 'x'] } } }],
  ['a variable out of a Secret', { env: [{ name: 'A', valueFrom: { secretKeyRef: { name: 's', key: 'k' } } }] }],
  ['every taint tolerated', { tolerations: [{ operator: 'Exists' }] }],
  [
    'a taint tolerated for a while',
    { tolerations: [{ key: 'a', value: 'b', effect: 'NoExecute', tolerationSeconds: 60 }] },
  ],
  ['a class of destinations', { network: { egress: 'Internet' } }],
  ['several calls at once', { concurrency: { perWorker: 1_600 } }],
  ['one call at once with the emulator', { runtimeInterface: 'Emulator', concurrency: { perWorker: 1 } }],
  ['a function that is switched off', { concurrency: { reserved: 0 } }],
  ['failures that go to another function', { asyncInvoke: { onFailure: { functionName: 'letters' } } }],
  [
    'failures that go to an endpoint',
    { asyncInvoke: { onFailure: { url: 'https://letters.example:8443/failed?of=hello' } } },
  ],
  [
    'everything at once',
    {
      functionName: 'all_of-It',
      imagePullPolicy: 'Never',
      imagePullSecrets: [{ name: 'regcred' }],
      command: ['/run'],
      args: ['a'],
      handler: 'app.handler',
      env: [{ name: 'K', value: 'V' }],
      resources: { limits: { memory: '1Gi', cpu: '500m' }, pids: 64 },
      ephemeralStorage: '1Gi',
      readOnlyRootFilesystem: false,
      timeoutSeconds: 900,
      port: 9000,
      warmUp: {},
      desiredState: 'Absent',
      idlePolicy: { pauseAfterSeconds: 30, removeAfterSeconds: 900 },
      wakePolicy: 'Never',
      asyncInvoke: {
        maximumRetryAttempts: 0,
        maximumEventAgeSeconds: 60,
        onSuccess: { functionName: 'next' },
        onFailure: { url: 'http://[::1]:8080/' },
      },
      concurrency: { reserved: 10, queueDepth: 0 },
      nodeName: 'node-1',
      nodeSelector: { zone: 'a' },
      tolerations: [{ key: 'dedicated', operator: 'Equal', value: 'lambda', effect: 'NoSchedule' }],
      topologySpread: { topologyKey: 'zone', maxSkew: 2, whenUnsatisfiable: 'ScheduleAnyway' },
      terminationGracePeriodSeconds: 0,
    },
  ],
];

describe('the resource definitions', () => {
  let server: ApiServer;

  beforeAll(async () => {
    server = await startApiServer();
    await server.kubectl(['apply', '-f', definitions]);
    await server.kubectl([
      'wait',
      '--for=condition=Established',
      'crd/lambdaworkers.esb.dev',
      'crd/lambdafunctions.esb.dev',
      'crd/lambdaversions.esb.dev',
      'crd/lambdanodes.esb.dev',
      'crd/lambdaquotas.esb.dev',
      '--timeout=60s',
    ]);
    // kubectl finds them a moment after they are served.
    await waitFor('the resources to be found', () => server.kubectl(['get', 'lf,lv,lw,ln,lq']).then(() => true));
  });

  afterAll(() => server.stop());

  const create = (manifest: Manifest, ...flags: string[]) =>
    server.kubectl(['create', '--validate=false', '-f', '-', ...flags], stringify(manifest));
  const patch = (name: string, body: object, ...flags: string[]) =>
    server.kubectl(['patch', 'lw', name, '--type=merge', '-p', JSON.stringify(body), ...flags]);
  const get = async (name: string): Promise<{ spec: Record<string, unknown> }> =>
    JSON.parse(await server.kubectl(['get', 'lw', name, '-o', 'json'])) as { spec: Record<string, unknown> };

  it.each(refused)('refuse %s and say what to write', async (_what, spec, message) => {
    const told = new RegExp(
      message
        .split('|')
        .map((part) => part.replaceAll(/[.*+?^${}()[\]\\]/g, String.raw`\$&`))
        .join('|'),
    );
    await expect(create(worker(spec), '--dry-run=server')).rejects.toThrow(told);
    if (!('functionName' in spec) && !message.startsWith('spec.')) {
      const template = { spec: { image: 'hello:1', ...spec } };
      await expect(create(lambdaFunction({ template }, 'candidate'), '--dry-run=server')).rejects.toThrow(told);
    }
  });

  it.each(accepted)('accept %s', async (_what, spec) => {
    await expect(create(worker(spec), '--dry-run=server')).resolves.toContain('created');
  });

  it('refuse a name that is no function name where spec.functionName is absent', async () => {
    await expect(create(worker({}, 'a.b'), '--dry-run=server')).rejects.toThrow(/write spec\.functionName/);
    await expect(create(worker({ functionName: 'a' }, 'a.b'), '--dry-run=server')).resolves.toContain('created');
    await expect(create(worker({}, 'n'.repeat(65)), '--dry-run=server')).rejects.toThrow(/write spec\.functionName/);
  });

  it('fill in defaults', async () => {
    await create(worker({}, 'defaults'));
    expect((await get('defaults')).spec).toEqual({
      image: 'hello:1',
      desiredState: 'Running',
      ephemeralStorage: '64Mi',
      network: { mode: 'Bridge' },
      port: 8080,
      readOnlyRootFilesystem: true,
      resources: { limits: { memory: '128Mi' }, pids: 256 },
      terminationGracePeriodSeconds: 10,
      timeoutSeconds: 3,
      wakePolicy: 'OnInvoke',
    });
    const within = { asyncInvoke: {}, concurrency: {}, topologySpread: { topologyKey: 'zone' } };
    await create(worker({ ...within, tolerations: [{ key: 'a' }] }, 'defaults-within'));
    expect((await get('defaults-within')).spec).toMatchObject({
      asyncInvoke: { maximumRetryAttempts: 2, maximumEventAgeSeconds: 21_600 },
      concurrency: { queueDepth: 100 },
      topologySpread: { topologyKey: 'zone', maxSkew: 1, whenUnsatisfiable: 'DoNotSchedule' },
      tolerations: [{ key: 'a', operator: 'Equal' }],
    });
  });

  it('keep the function name as it was: changed, added or taken away', async () => {
    await create(worker({ functionName: 'one' }, 'named'));
    await create(worker({}, 'nameless'));
    const refusal = /create another LambdaWorker with the new functionName/;
    await expect(patch('named', { spec: { functionName: 'two' } })).rejects.toThrow(refusal);
    await expect(patch('named', { spec: { functionName: null } })).rejects.toThrow(refusal);
    await expect(patch('nameless', { spec: { functionName: 'two' } })).rejects.toThrow(refusal);
    await expect(patch('named', { spec: { timeoutSeconds: 5 } })).resolves.toContain('patched');
  });

  it('keep the version of a worker as it was: changed, added or taken away', async () => {
    await create(worker({ functionName: 'one', version: 1 }, 'one-1-0'));
    await create(worker({}, 'latest'));
    const refusal = /version cannot be changed/;
    await expect(patch('one-1-0', { spec: { version: 2 } })).rejects.toThrow(refusal);
    await expect(patch('one-1-0', { spec: { version: null } })).rejects.toThrow(refusal);
    await expect(patch('latest', { spec: { version: 1 } })).rejects.toThrow(refusal);
    await expect(patch('one-1-0', { spec: { timeoutSeconds: 5 } })).resolves.toContain('patched');
    await expect(create(worker({ version: 0 }, 'none'))).rejects.toThrow(/spec.version/);
    const template = { spec: { image: 'hello:1', version: 1 } };
    await expect(
      server.kubectl(['create', '--validate=strict', '-f', '-'], stringify(lambdaFunction({ template }))),
    ).rejects.toThrow(/unknown field "spec.template.spec.version"/);
  });

  it('keep a LambdaVersion as it was published', async () => {
    const version = (spec: object, name: string): Manifest => ({
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaVersion',
      metadata: { name },
      spec: {
        functionName: 'hello',
        version: 3,
        template: {
          spec: { image: `hello@sha256:${'a'.repeat(64)}`, env: [{ name: 'A', value: 'b' }], warmUp: { payload: 1 } },
        },
        ...spec,
      },
    });
    await create(version({}, 'hello-3'));
    const change = (body: object, ...flags: string[]) =>
      server.kubectl(['patch', 'lv', 'hello-3', '--type=merge', '-p', JSON.stringify(body), ...flags]);
    const refusal = /a LambdaVersion cannot be changed/;
    await expect(change({ spec: { description: 'another' } })).rejects.toThrow(refusal);
    await expect(change({ spec: { template: { spec: { env: [{ name: 'A', value: 'c' }] } } } })).rejects.toThrow(
      refusal,
    );
    await expect(change({ spec: { template: { spec: { warmUp: { payload: 2 } } } } })).rejects.toThrow(refusal);
    await change({ metadata: { labels: { team: 'a' } } });
    await change({ status: { state: 'Active', workers: 1 } }, '--subresource=status');
    const [, shown] = (await server.kubectl(['get', 'lv', 'hello-3'])).split('\n');
    expect(shown?.split(/\s+/).slice(0, 5)).toEqual(['hello-3', 'hello', '3', 'Active', '1']);
  });

  it.each([
    ['a name of digits alone', [{ name: '12', version: 1 }], 'not of digits alone'],
    ['a name with a dot', [{ name: 'a.b', version: 1 }], "letters, digits, '-' and '_'"],
    ['a version of none', [{ name: 'live', version: 0 }], 'version'],
    [
      'one name twice',
      [
        { name: 'live', version: 1 },
        { name: 'live', version: 2 },
      ],
      'Duplicate value',
    ],
    [
      'more than all calls',
      [
        {
          name: 'live',
          version: 1,
          routing: [
            { version: 2, permille: 600 },
            { version: 3, permille: 401 },
          ],
        },
      ],
      'more than 1000 together',
    ],
    [
      'its own version twice',
      [{ name: 'live', version: 1, routing: [{ version: 1, permille: 5 }] }],
      'of the alias itself',
    ],
  ])('refuse an alias with %s', async (_what, aliases, message) => {
    const template = { spec: { image: 'hello:1' } };
    await expect(create(lambdaFunction({ template, aliases }), '--dry-run=server')).rejects.toThrow(message);
  });

  it('accept aliases with weights and workers of their own', async () => {
    const template = { spec: { image: 'hello:1' } };
    const aliases = [
      { name: 'live', version: 1, routing: [{ version: 2, permille: 1_000 }], provisionedWorkers: 3 },
      { name: 'next_1', version: 2 },
    ];
    const spec = { template, aliases, publish: 'OnChange', publishToken: 'commit 1', description: 'says hello' };
    await expect(create(lambdaFunction(spec), '--dry-run=server')).resolves.toContain('created');
  });

  it('let the epoch of an assignment only rise, and each move take a higher one', async () => {
    await create(worker({}, 'moved'));
    const assign = (nodeName: string, epoch: number) =>
      patch('moved', { status: { assignment: { nodeName, epoch } } }, '--subresource=status');
    await assign('node-1', 2);
    await expect(assign('node-1', 1)).rejects.toThrow(/never falls/);
    await expect(assign('node-2', 2)).rejects.toThrow(/needs a higher epoch/);
    await assign('node-2', 3);
  });

  it('let another share come with a higher epoch alone, and the one there go, as controllers before it leave it out', async () => {
    await create(worker({}, 'shared'));
    const assign = (epoch: number, share: number | null) =>
      patch('shared', { status: { assignment: { nodeName: 'node-1', epoch, share } } }, '--subresource=status');
    await assign(1, 2);
    await expect(assign(1, 1)).rejects.toThrow(/another share needs a higher epoch/);
    await assign(2, 1);
    await assign(2, null);
    await expect(assign(2, 1)).rejects.toThrow(/another share needs a higher epoch/);
    await assign(3, 1);
  });

  it('refuse times that are none', async () => {
    await create(worker({}, 'timed'));
    const wake = (time: string) => patch('timed', { status: { lastInvocationTime: time } }, '--subresource=status');
    await wake('2026-11-14T12:30:15.123456Z');
    await expect(wake('yesterday')).rejects.toThrow(/lastInvocationTime/);
  });

  it('show what matters in columns, and select by node', async () => {
    await create(worker({ functionName: 'shown' }, 'shown'));
    await patch(
      'shown',
      {
        status: {
          assignment: { nodeName: 'node-7', epoch: 1 },
          phase: 'Running',
          address: { ip: '10.234.0.7', port: 8080 },
          restartCount: 2,
          conditions: ['Ready', 'UpToDate'].map((type) => ({
            type,
            status: 'True',
            reason: type,
            message: 'this generation serves',
            lastTransitionTime: '2026-11-14T12:30:15Z',
          })),
        },
      },
      '--subresource=status',
    );
    const lines = await waitFor('the column', async () => {
      const table = await server.kubectl(['get', 'lw', '--field-selector', 'status.assignment.nodeName=node-7']);
      return table.split('\n').filter((line) => line !== '');
    });
    expect(lines[0]?.split(/\s+/)).toEqual([
      ...['NAME', 'READY', 'DESIRED', 'PHASE', 'UP-TO-DATE', 'NODE', 'IP', 'RESTARTS', 'AGE'],
    ]);
    expect(lines).toHaveLength(2);
    expect(lines[1]?.split(/\s+/).slice(0, 8)).toEqual([
      'shown',
      'True',
      'Running',
      'Running',
      'True',
      'node-7',
      '10.234.0.7',
      '2',
    ]);
    expect(await server.kubectl(['get', 'lambdaworkers', 'shown', '-o', 'wide'])).toMatch(
      /REASON\s+FUNCTION\s+VERSION\s+IMAGE\s+LIMITS\s+MESSAGE/,
    );
    expect(await server.kubectl(['get', 'esb'])).toContain('shown');
  });

  it('explain every field', async () => {
    for (const kind of ['lambdaworker', 'lambdanode']) {
      const text = await waitFor('the schema to be published', () => server.kubectl(['explain', kind, '--recursive']));
      expect(text).toContain('conditions');
      const paths =
        kind === 'lambdaworker'
          ? [
              'spec',
              'spec.idlePolicy',
              'spec.asyncInvoke',
              'spec.asyncInvoke.onSuccess',
              'spec.asyncInvoke.onFailure',
              'spec.concurrency',
              'spec.tolerations',
              'spec.topologySpread',
              'spec.env.valueFrom.secretKeyRef',
              'spec.resources.limits',
              'status',
              'status.lastTermination',
            ]
          : ['spec', 'status', 'status.capacity', 'status.conditions'];
      for (const path of paths) {
        expect(await server.kubectl(['explain', `${kind}.${path}`]), path).not.toContain('<no description>');
      }
    }
  });

  it('hold the template of a LambdaFunction to what holds a worker, and fill it in', async () => {
    const template = { spec: { image: 'hello:1' } };
    for (const [spec, told] of [
      [{}, 'spec.template: Required value'],
      [{ template: {} }, 'spec.template.spec: Required value'],
      [{ template, scaling: { minWorkers: -1 } }, 'greater than or equal to 0'],
      [{ template, scaling: { minWorkers: 1_001 } }, 'less than or equal to 1000'],
      [{ template, scaling: { mode: 'Other' } }, 'Unsupported value'],
      [{ template, scaling: { minWorkers: 4, maxWorkers: 3 } }, 'minWorkers is more than maxWorkers'],
      [{ template, scaling: { mode: 'Auto', spareWorkers: 0 } }, 'greater than or equal to 1'],
      [{ template, scaling: { mode: 'Auto', maxWorkers: 0 } }, 'greater than or equal to 1'],
      [{ template, scaling: { mode: 'Auto', scaleDownDelaySeconds: -1 } }, 'greater than or equal to 0'],
      [{ template, scaling: { mode: 'Auto', scaleDownDelaySeconds: 4 } }, 'call after call would make a worker'],
      [{ template, reservedConcurrency: -1 }, 'greater than or equal to 0'],
      [{ template, asyncInvoke: { onFailure: { functionName: 'made' } } }, 'must be another function'],
      [{ template, asyncInvoke: { onSuccess: { functionName: 'made' } } }, 'must be another function'],
      [{ template, asyncInvoke: { onFailure: {} } }, 'write either functionName or url'],
      [{ template, functionName: 'a.b' }, "letters, digits, '-' and '_'"],
      [{ template, rollout: { maxSurge: '25' } }, 'maxSurge is a number from 0 to 1000, or a percentage'],
      [{ template, rollout: { maxSurge: '101%' } }, 'maxSurge is a number'],
      [{ template, rollout: { maxUnavailable: -1 } }, 'maxUnavailable is a number'],
      [{ template, rollout: { maxSurge: 0 } }, 'maxSurge and maxUnavailable are both 0'],
      [{ template, rollout: { maxSurge: '0%', maxUnavailable: '0%' } }, 'no worker could ever change'],
      [{ template, rollout: { progressDeadlineSeconds: 0 } }, 'greater than or equal to 1'],
      [{ template, revisionHistoryLimit: 101 }, 'less than or equal to 100'],
    ] as const) {
      await expect(create(lambdaFunction(spec)), JSON.stringify(spec)).rejects.toThrow(told);
    }
    const named = { template: { spec: { image: 'hello:1', functionName: 'other' } } };
    await expect(create(lambdaFunction(named), '--validate=strict')).rejects.toThrow('unknown field');
    await expect(create(lambdaFunction({ template, functionName: 'f' }, 'a'.repeat(64)))).rejects.toThrow(
      'at most 63 characters',
    );
    await expect(create(lambdaFunction({ template }, 'a.b'))).rejects.toThrow('without spec.functionName');
    const made = JSON.parse(await create(lambdaFunction({ template }), '-o', 'json')) as {
      spec: object;
      status: object;
    };
    expect(made).toMatchObject({
      spec: {
        scaling: { mode: 'Auto', minWorkers: 1 },
        rollout: { maxSurge: '25%', maxUnavailable: 0, progressDeadlineSeconds: 600 },
        revisionHistoryLimit: 10,
        template: { spec: { timeoutSeconds: 3, port: 8080 } },
      },
      status: { observedGeneration: -1 },
    });
    await expect(
      server.kubectl(['patch', 'lf', 'made', '--type=merge', '-p', '{"spec":{"functionName":"other"}}']),
    ).rejects.toThrow('functionName cannot be changed, added or taken away');
    await server.kubectl(['scale', 'lf/made', '--replicas=20']);
    const bounded = { minWorkers: 0, maxWorkers: 3 };
    await server.kubectl(['patch', 'lf', 'made', '--type=merge', '-p', JSON.stringify({ spec: { scaling: bounded } })]);
    await server.kubectl(['scale', 'lf/made', '--replicas=3']);
    await expect(server.kubectl(['scale', 'lf/made', '--replicas=4'])).rejects.toThrow(
      'minWorkers is more than maxWorkers',
    );
    for (const path of ['spec.template.spec.asyncInvoke', 'spec.scaling.minWorkers', 'status.selector']) {
      expect(await server.kubectl(['explain', `lambdafunction.${path}`]), path).not.toContain('<no description>');
    }
    await server.kubectl(['delete', 'lf', 'made']);
  });

  it('refuse a LambdaQuota that bounds nothing, or by what is no amount', async () => {
    const quota = (hard: object): Manifest => ({
      apiVersion: 'esb.dev/v1alpha1',
      kind: 'LambdaQuota',
      metadata: { name: 'team' },
      spec: { hard },
    });
    await expect(create(quota({}), '--dry-run=server')).rejects.toThrow('should have at least 1 properties');
    await expect(create(quota({ memory: '4GB' }), '--dry-run=server')).rejects.toThrow(
      'a quantity of bytes such as 4Gi',
    );
    await expect(create(quota({ cpu: '-1' }), '--dry-run=server')).rejects.toThrow('such as 500m or 2');
    await expect(create(quota({ workers: -1 }), '--dry-run=server')).rejects.toThrow('greater than or equal to 0');
    await create(quota({ memory: '4Gi', cpu: 2, workers: 10 }), '--dry-run=server');
  });

  it('refuse an endpoint and a certificate of a LambdaNode that are none', async () => {
    const node = { apiVersion: 'esb.dev/v1alpha1', kind: 'LambdaNode', metadata: { name: 'node-1' } };
    await create(node);
    const status = (body: object) =>
      server.kubectl([
        'patch',
        'ln',
        'node-1',
        '--type=merge',
        '--subresource=status',
        '-p',
        JSON.stringify({ status: body }),
      ]);
    await status({ endpoint: '10.0.0.7:9443' });
    await status({ endpoint: '[fd00::1]:9443' });
    await expect(status({ endpoint: '10.0.0.7' })).rejects.toThrow(/endpoint is host:port/);
    const begin = '-----BEGIN CERTIFICATE-----';
    const end = '-----END CERTIFICATE-----';
    const certificate = `${begin}\nMIIB\n+/==\n${end}\n`;
    await status({ certificate });
    await status({ certificate: certificate.repeat(2) });
    for (const none of [
      'x',
      begin,
      `${certificate}x`,
      `${certificate}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n`,
      certificate.repeat(3),
      `${begin}\nA A\n${end}\n`,
    ]) {
      await expect(status({ certificate: none }), none).rejects.toThrow(/one certificate, or two, in PEM form/);
    }
    expect(await server.kubectl(['get', 'ln', 'node-1', '-o', 'jsonpath={.spec.unschedulable}'])).toBe('false');
  });
});
