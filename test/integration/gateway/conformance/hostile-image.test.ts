import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { ensureSampleImage } from '../../../../local/image/sample-image.ts';
import { findCondition } from '../../../../src/api/condition.ts';
import type { LambdaWorker } from '../../../../src/api/lambda-worker.ts';
import { createProgress } from '../../../../src/cli/progress.ts';
import { type ConformanceLab, parsed, startConformanceLab } from '../../../support/conformance-lab.ts';
import { answered } from '../../../support/lambda-caller.ts';
import { layoutImage, withFiles } from '../../../support/test-image.ts';
import { toolsFolder } from '../../../support/tools.ts';

/**
 * A function whose image attacks the Runtime API, on from its first call, or from a moment after its start; answers are
 * the attack of two kinds.
 */
const HOSTILE = `
import http.client, json, os, socket, threading, time
API = os.environ["AWS_LAMBDA_RUNTIME_API"]
HOST, PORT = API.split(":")
NEXT = b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
held = []
def connect():
    one = socket.create_connection((HOST, int(PORT)))
    held.append(one)
    return one
def connections():
    while True:
        connect()
def headers():
    for path in [b"invocation/next", b"init/error"]:
        one = connect()
        one.sendall(b"POST /2018-06-01/runtime/" + path + b" HTTP/1.1\\r\\nHost: x\\r\\n" + b"X-Long: y\\r\\n" * (200_000 if b"error" in path else 2_000))
        held.pop().close()
def slow():
    ones = [connect() for _ in range(40)]
    while True:
        for one in ones:
            one.sendall(b"G")
            time.sleep(0.001)
def following():
    connect().sendall(NEXT)
    held.pop().close()
def garbage():
    connect().sendall(os.urandom(4096) + b"\\n")
    held.pop().close()
def attack():
    while True:
        try:
            globals()[os.environ["ATTACK"]]()
        except OSError:
            held.clear()
def endless(call, headers, part):
    one = socket.create_connection((HOST, int(PORT)))
    one.sendall(f"POST /2018-06-01/runtime/invocation/{call}/response HTTP/1.1\\r\\nHost: x\\r\\n{headers}Transfer-Encoding: chunked\\r\\n\\r\\n".encode())
    piece = b"%x\\r\\n%s\\r\\n" % (len(part), part)
    while True:
        one.sendall(piece)
if "AFTER_SECONDS" in os.environ:
    threading.Timer(float(os.environ["AFTER_SECONDS"]), attack).start()
waiting = http.client.HTTPConnection(API)
while True:
    try:
        waiting.request("GET", "/2018-06-01/runtime/invocation/next")
        got = waiting.getresponse()
        got.read()
    except (OSError, http.client.HTTPException):
        waiting = http.client.HTTPConnection(API)
        continue
    call = got.headers["Lambda-Runtime-Aws-Request-Id"]
    if os.environ["ATTACK"] == "bytes":
        endless(call, "Lambda-Runtime-Function-Response-Mode: streaming\\r\\n", b"x")
    if os.environ["ATTACK"] == "answer":
        endless(call, "", b"x" * 65536)
    answer = http.client.HTTPConnection(API)
    answer.request("POST", f"/2018-06-01/runtime/invocation/{call}/response", "1")
    answer.getresponse().read()
    if not held:
        held.append(None)
        threading.Thread(target=attack, daemon=True).start()
`;

/** Types of errors of the calls in which the attack is the answer; others are answered before the attack. */
const errors = new Map([
  ['answer', 'Function.ResponseSizeTooLarge'],
  ['bytes', 'Runtime.Unknown'],
]);

/** Ticks of the processor in a second, and milliseconds that an attack is watched. */
const TICKS = 100;
const WATCHED_MS = 5_000;

describe('a hostile image', () => {
  let lab: ConformanceLab;
  let image: string;
  let restShare: number;

  const call = async (name: string) =>
    answered(await lab.callers.javaScript.call('Invoke', { FunctionName: name, Payload: '{}' }));
  const ticks = async (): Promise<number> => {
    const fields = (await readFile(`/proc/${lab.agentLab.agent.pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? [];
    return Number(fields[11]) + Number(fields[12]);
  };
  /** Share of a processor that the agent takes while another function is called. */
  const watched = async (): Promise<number> => {
    const before = await ticks();
    const begun = performance.now();
    while (performance.now() - begun < WATCHED_MS) {
      const { output } = await call('victim');
      expect({ functionError: output.FunctionError, counter: typeof parsed(output.Payload).counter }).toEqual({
        functionError: undefined,
        counter: 'number',
      });
      // The pace of the calls.
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return ((await ticks()) - before) / TICKS / ((performance.now() - begun) / 1_000);
  };

  beforeAll(async () => {
    lab = await startConformanceLab();
    const progress = createProgress({ write: () => undefined });
    const { layout } = await ensureSampleImage('python-counter', { progress, tools: toolsFolder() });
    const code = { path: '/var/task/hostile.py', content: HOSTILE };
    image = lab.agentLab.lab.registry.put('hostile:1', await withFiles(await layoutImage(layout), [code]));
    await lab.apply('victim', { image, runtimeInterface: 'Lambda' });
    restShare = await watched();
  });
  const apply = (name: string, attack: string, env: Readonly<Record<string, string>> = {}) =>
    lab.apply(name, {
      image,
      runtimeInterface: 'Lambda',
      command: ['python3', '/var/task/hostile.py'],
      args: [],
      env: Object.entries({ ATTACK: attack, ...env }).map(([key, value]) => ({ name: key, value })),
      timeoutSeconds: 120,
      resources: { limits: { cpu: '500m', memory: '128Mi' }, pids: 64 },
    });
  afterAll(() => lab?.close());

  it.each([
    ['connections', '60 connections'],
    ['headers', '16 KiB of header'],
    ['following', 'one request for the next call at a time'],
    ['garbage', 'HTTP/1.1'],
    ['slow', '10 seconds for the header of a request'],
    ['bytes', '10,000 pieces below 16 bytes in a second'],
    ['answer', 'an end to a body that is too large'],
  ])(
    'that attacks by %s costs the agent a tenth of a processor at most, and no other call, and is ended',
    async (attack, bound) => {
      const name = `hostile-${attack}`;
      await apply(name, attack);
      onTestFinished(() => lab.agentLab.remove(name));
      const first = lab.callers.javaScript.call('Invoke', { FunctionName: name, Payload: '{}' });
      expect((await watched()) - restShare).toBeLessThan(0.1);
      // Its container is made again, and the resource says why.
      const isEnded = ({ status }: LambdaWorker): boolean =>
        status?.lastTermination?.reason === 'RuntimeApiAbused' && (status.restartCount ?? 0) > 0;
      const { status } = await lab.agentLab.waitForWorker(name, 'to be ended', isEnded);
      expect(findCondition(status?.conditions, 'LimitsReached')).toMatchObject({
        reason: 'RuntimeApiAbused',
        message: expect.stringContaining(`broke a bound of the Runtime API: ${bound}`),
      });
      const { FunctionError, Payload } = answered(await first).output;
      const error = FunctionError === undefined ? undefined : parsed(Payload).errorType;
      expect(error).toBe(errors.get(attack));
    },
  );

  it('that attacks again and again is put off', async () => {
    await apply('hostile-again', 'connections', { AFTER_SECONDS: '2' });
    onTestFinished(() => lab.agentLab.remove('hostile-again'));
    const isPutOff = ({ status }: LambdaWorker): boolean =>
      findCondition(status?.conditions, 'Ready')?.reason === 'CrashLoopBackOff';
    const { status } = await lab.agentLab.waitForWorker('hostile-again', 'to be put off', isPutOff);
    expect(findCondition(status?.conditions, 'Ready')?.message).toContain('60 connections');
    expect(status?.restartCount).toBe(1);
  });
});
