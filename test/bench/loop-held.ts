import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../support/free-port.ts';
import { type GatewayProcess, type LaunchedGateway, startGatewayProcess } from '../support/gateway-process.ts';
import { ALICE } from '../support/keyed-access.ts';
import { type OwnedProcess, startOwnedProcess } from '../support/owned-process.ts';
import { type Signer, signedRequest } from '../support/signed-request.ts';
import { giveUrl } from '../support/url-function.ts';
import { waitFor } from '../support/wait-for.ts';
import { apiRoutes, type Framing, sendBody, WORST } from '../support/worst-bodies.ts';
import { type BenchResult, compare } from './bench-result.ts';
import { type LoopHold, loopHold, watchedLoop } from './loop-watch.ts';
import type { ClusterScenario } from './scenario.ts';

const MIB = 2 ** 20;
/** Milliseconds for which a request may hold the loop. */
const BUDGET = { without: 50, with: 100 } as const;
const ROUNDS = 3;
/** Milliseconds of processor time in one piece in the bare program. */
const BARE_MS = 10;
const DOMAIN = 'fn.example.com';
const HOST = 'gateway.example';
/** A key whose user has no right. */
const BOB: Signer = { accessKeyId: 'AKIDBOB', secretAccessKey: 'another-secret-of-forty-characters-01234' };
const FORGER: Signer = { ...ALICE, secretAccessKey: 'x'.repeat(40) };

/** An array of as many items as make `size` bytes with spaces at the end. */
function arrayOf(item: string, size: number): Buffer {
  const text = Buffer.alloc(size, ' ');
  const end = 1 + Math.floor((size - 2) / (item.length + 1)) * (item.length + 1);
  text.fill(`${item},`, 1, end);
  text.write('[', 0);
  text.write(']', end - 1);
  return text;
}

/** Bodies of a size: those that no operation takes, and JSON. */
const BODIES: Readonly<Record<string, (size: number) => Buffer>> = {
  ...Object.fromEntries(Object.entries(WORST).map(([name, body]) => [name, (size: number) => body.subarray(0, size)])),
  'JSON of many numbers': (size) => arrayOf('1', size),
  'JSON of many arrays': (size) => arrayOf('[]', size),
};

/** One request, to be sent with each body. */
interface Kind {
  readonly what: string;
  /** Whether its sender may do what it asks, and there is a place for it. */
  readonly hasRight: boolean;
  readonly port: number;
  readonly method: string;
  readonly path: string;
  readonly host: string;
  readonly signer: Signer | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  readonly sizes: readonly number[];
}

interface Held extends LoopHold {
  readonly what: string;
  readonly hasRight: boolean;
}

/**
 * The worst bodies to each route of each listener of a gateway of its own process: for how long its event loop was held
 * by one request. A bare program that holds its loop for a known time tells what the machine adds.
 */
export const loopHeld: ClusterScenario = {
  name: 'loop-held',
  group: 'gateway',
  async run(bench): Promise<readonly BenchResult[]> {
    const folder = await mkdtemp(join(tmpdir(), 'esb-loop-'));
    const urlPort = await freePort();
    const env = watchedLoop(folder);
    let gateway: GatewayProcess | undefined;
    let bare: OwnedProcess | undefined;
    try {
      gateway = await startGatewayProcess(['--authentication', 'off', '--log-level', 'error'], { env });
      await prepare(gateway);
      const flags = ['--authentication', 'on', '--control-api', '--host', HOST, '--function-url-rate', '0'];
      const urls = [`--function-url-domain=${DOMAIN}`, `--function-url-listen=127.0.0.1:${urlPort}`];
      const peer = await gateway.startPeer('main', [...flags, ...urls]);
      bare = await startOwnedProcess({
        program: process.execPath,
        args: [join(import.meta.dirname, 'busy-loop.ts')],
        logFile: join(folder, 'bare.log'),
        env,
      });
      const kinds = kindsOf(peer, urlPort);
      await untilKnown(kinds);
      return await Promise.race([
        measure(folder, peer, bare, kinds, Math.max(1, Math.round(ROUNDS * bench.scale)), bench.say),
        bench.interrupted,
      ]);
    } finally {
      await bare?.kill();
      await gateway?.close();
      await rm(folder, { recursive: true, force: true });
    }
  },
};

/** Functions with and without a place, URLs of both kinds, and keys. */
async function prepare({ addWorker, api }: GatewayProcess): Promise<void> {
  const metadata = (name: string) => ({ name, namespace: 'default' });
  const key = ({ secretAccessKey }: Signer, user: string, groups: readonly string[]): string =>
    JSON.stringify({ secretAccessKey, user, groups });
  const objects = [
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: metadata('esb-access-keys'),
      stringData: {
        [ALICE.accessKeyId]: key(ALICE, 'alice', ['system:masters']),
        [BOB.accessKeyId]: key(BOB, 'bob', []),
      },
    },
  ];
  await api.kubectl(['apply', '-f', '-'], JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }));
  await addWorker('hello');
  await addWorker('full', { concurrency: { reserved: 0, queueDepth: 1 } });
  await api.kubectl(['label', 'namespace', 'default', 'esb.dev/public-functions=true']);
  await giveUrl(api, 'open', { authType: 'NONE', invokeMode: 'BUFFERED' });
  await giveUrl(api, 'closed', { authType: 'AWS_IAM', invokeMode: 'BUFFERED' });
  await addWorker('open-1', { functionName: 'open' });
  await addWorker('closed-1', { functionName: 'closed' });
}

/** Senders by what they say of themselves; each but the last has no right. */
const SENDERS: readonly (readonly [who: string, signer: Signer | undefined, hasRight: boolean])[] = [
  ['not signed', undefined, false],
  ['signed wrongly', FORGER, false],
  ['signed, without a permission', BOB, false],
  ['signed rightly', ALICE, true],
];

function kindsOf({ healthPort, port }: LaunchedGateway, urlPort: number): readonly Kind[] {
  const call = (name: string): string => `/2015-03-31/functions/${name}/invocations`;
  const calls = ['RequestResponse', 'Event', 'DryRun'].map((type) => ({
    what: `Invoke as ${type}`,
    path: call('hello'),
    hasPlace: true,
    headers: { 'x-amz-invocation-type': type },
  }));
  const asked = [
    ...apiRoutes.map(({ isCall, method, operation: what, path }) => {
      const sizes = isCall ? [6 * MIB, MIB] : [6 * MIB, 64 * 1024];
      return { what, path, method, hasPlace: true, headers: {}, sizes };
    }),
    ...[...calls, { what: 'Invoke without a place', path: call('full'), hasPlace: false, headers: {} }].map((one) => ({
      ...one,
      method: 'POST',
      sizes: [6 * MIB, MIB],
    })),
  ];
  const api = asked.flatMap(({ hasPlace, ...rest }) =>
    SENDERS.map(([who, signer, hasRight]) => ({
      ...rest,
      what: `${rest.what}, ${who}`,
      hasRight: hasRight && hasPlace,
      port,
      host: HOST,
      signer,
    })),
  );
  const types = ['application/json', 'image/png'];
  // The largest bodies that fit into an event: as they are, in base64, with each byte escaped.
  const sizes = [6 * MIB, 6 * MIB - 4_096, 4_400_000, MIB - 4_096];
  const url = (name: string, type: string) => ({
    what: `URL of ${name}, ${type}`,
    port: urlPort,
    method: 'POST',
    path: '/',
    host: `${name}.default.${DOMAIN}`,
    headers: { 'content-type': type },
    sizes,
  });
  const urls = types.flatMap((type) => [
    { ...url('open', type), hasRight: true, signer: undefined },
    ...SENDERS.map(([who, signer, hasRight]) => {
      const one = url('closed', type);
      return { ...one, what: `${one.what}, ${who}`, hasRight, signer };
    }),
  ]);
  const metrics = ['/healthz', '/readyz', '/metrics', '/'].map((path) => ({
    what: `metrics port ${path}`,
    hasRight: false,
    port: healthPort,
    method: 'POST',
    path,
    host: HOST,
    signer: undefined,
    sizes: [6 * MIB],
  }));
  return [...api, ...urls, ...metrics];
}

/** Waits until those with a right are let in, and those without one are not. */
async function untilKnown(kinds: readonly Kind[]): Promise<void> {
  const body = Buffer.from('{}');
  const probes: readonly (readonly [kind: string, status: number])[] = [
    ['Invoke as RequestResponse, signed rightly', 200],
    ['Invoke as RequestResponse, signed, without a permission', 403],
    ['URL of open, image/png', 200],
    ['URL of closed, image/png, signed rightly', 200],
    ['URL of closed, image/png, not signed', 403],
  ];
  for (const [what, status] of probes) {
    const kind = kinds.find((one) => one.what === what);
    if (kind === undefined) {
      throw new Error(`there is no request "${what}"`);
    }
    await waitFor(`${what} to be answered by ${status}`, async () => (await send(kind, body, 'announced')) === status, {
      timeoutMs: 30_000,
      everyMs: 100,
    });
  }
}

/** Bodies that are announced come with their hash, those in chunks are signed without one where that is allowed. */
async function send(kind: Kind, body: Buffer, how: Framing): Promise<number> {
  const { headers, host, method, path, port, signer } = kind;
  const hash = createHash('sha256').update(body).digest('hex');
  const sent = { host, ...headers };
  if (signer === undefined) {
    return await sendBody(port, { method, path, headers: linesOf(Object.entries(sent)) }, body, how);
  }
  const stated = how === 'announced' ? { 'x-amz-content-sha256': hash } : {};
  const signed = await signedRequest(signer, {
    method,
    path,
    headers: { ...sent, ...stated },
    applyChecksum: false,
    ...(how === 'announced' ? {} : { body }),
  });
  const pairs = signed.rawHeaders.flatMap((name, at) =>
    at % 2 === 0 ? [[name, signed.rawHeaders[at + 1] ?? ''] as const] : [],
  );
  return await sendBody(port, { method, path, headers: linesOf(pairs) }, body, how);
}

function linesOf(pairs: readonly (readonly [name: string, value: string])[]): string[] {
  return pairs.map(([name, value]) => `${name}: ${value}`);
}

async function measure(
  folder: string,
  { process: child }: Pick<LaunchedGateway, 'process'>,
  bare: OwnedProcess,
  kinds: readonly Kind[],
  rounds: number,
  say: (text: string) => void,
): Promise<readonly BenchResult[]> {
  const held: Held[] = [];
  const bareHolds: LoopHold[] = [];
  for (let round = 0; round < rounds; round += 1) {
    say(`round ${round + 1} of ${rounds} ...`);
    for (const kind of kinds) {
      for (const [body, ofSize] of Object.entries(BODIES)) {
        for (const size of kind.sizes) {
          for (const how of ['announced', 'chunked'] as const) {
            await loopHold(folder, child);
            const status = await send(kind, ofSize(size), how);
            const hold = await loopHold(folder, child);
            // A request that is refused by 403 had no right, also with a good signature.
            const hasRight = kind.hasRight && status !== 403;
            held.push({ ...hold, hasRight, what: `${kind.what}: ${body}, ${size}, ${how} (${status})` });
          }
        }
      }
      bareHolds.push(await loopHold(folder, bare));
    }
  }
  const noiseMs = Math.max(...bareHolds.map(({ wallMs }) => wallMs)) - BARE_MS;
  return [false, true].map((hasRight) => resultOf(held, hasRight, bareHolds, noiseMs));
}

function resultOf(
  all: readonly Held[],
  hasRight: boolean,
  bareHolds: readonly LoopHold[],
  noiseMs: number,
): BenchResult {
  const held = all.filter((one) => one.hasRight === hasRight);
  const budget = hasRight ? BUDGET.with : BUDGET.without;
  const most = (of: (hold: Held) => number): string => {
    const worst = held.toSorted((one, other) => of(other) - of(one)).slice(0, 5);
    return worst.map((one) => `${of(one).toFixed(1)} ms ${one.what}`).join('; ');
  };
  return compare({
    name: hasRight ? 'loop-held-with-right' : 'loop-held-without-right',
    unit: 'ms',
    ours: held.map(({ processorMs }) => processorMs),
    baseline: {
      what: `a program that holds its loop for ${BARE_MS} ms`,
      sample: bareHolds.map(({ processorMs }) => processorMs),
    },
    budget: `each ≤ ${budget} ms of processor, and of time but for what a bare program is held more than it asks`,
    met: () => held.every(({ processorMs, wallMs }) => processorMs <= budget && wallMs <= budget + noiseMs),
    note: `${held.length} requests, processor: ${most(({ processorMs }) => processorMs)}; time: ${most(({ wallMs }) => wallMs)}; garbage collector: ${most(({ collectionMs }) => collectionMs)}; the bare program was held for ${noiseMs.toFixed(1)} ms more than it asked, by the machine`,
  });
}
