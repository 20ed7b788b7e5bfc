import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ReplayGuard, SignatureMemory } from '../../../../src/gateway/access/replay-guard.ts';
import { headerSignature } from '../../../../src/gateway/access/signature.ts';
import { type RequestToSign, type Signer, signedRequest } from '../../../support/signed-request.ts';

const signer: Signer = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'x'.repeat(40) };
const signedAt = new Date('2026-03-01T12:00:00Z');
const now = signedAt.getTime();

/** How the SDK for JavaScript tells calls apart: by headers that it signs. */
async function fromJavaScript(id: string, attempt = 'attempt=1; max=3'): Promise<Parameters<ReplayGuard['admit']>> {
  const headers = { 'amz-sdk-invocation-id': id, 'amz-sdk-request': attempt };
  return admission({ headers });
}

/** How boto3 does: by headers that it adds after the request was signed. */
async function fromPython(id: string, attempt = 'attempt=1'): Promise<Parameters<ReplayGuard['admit']>> {
  const [signature, headers, at] = await admission({ applyChecksum: false });
  return [signature, { ...headers, 'amz-sdk-invocation-id': id, 'amz-sdk-request': attempt }, at];
}

async function admission(request: RequestToSign): Promise<Parameters<ReplayGuard['admit']>> {
  const signed = await signedRequest(signer, { body: '{}', signedAt, ...request });
  return [headerSignature(signed), signed.headers, now];
}

const REPLAYED = 'The signature was used before';

describe('replay guard', () => {
  it('lets each call of the SDK for JavaScript pass, and each try of it, but none of them twice', async () => {
    const guard = new ReplayGuard();
    const calls = [await fromJavaScript('a'), await fromJavaScript('b'), await fromJavaScript('b', 'attempt=2; max=3')];
    for (const call of calls) {
      guard.admit(...call);
    }
    for (const call of calls) {
      expect(() => guard.admit(...call)).toThrow(REPLAYED);
    }
  });

  it('lets equal calls of boto3 pass that were signed in the same second, and their tries, but none of them twice', async () => {
    const guard = new ReplayGuard();
    const calls = [await fromPython('a'), await fromPython('b'), await fromPython('b', 'attempt=2')];
    for (const call of calls) {
      guard.admit(...call);
    }
    for (const call of calls) {
      expect(() => guard.admit(...call)).toThrow(REPLAYED);
    }
  });

  it('takes no call of boto3 under another id for a new one once the second of its signing is long over', async () => {
    const guard = new ReplayGuard();
    const [signature, headers] = await fromPython('a');
    guard.admit(signature, headers, now);
    const forged = { ...headers, 'amz-sdk-invocation-id': 'forged' };
    expect(() => guard.admit(signature, forged, now + 15_001)).toThrow(REPLAYED);
  });

  it('lets equal calls of a client that tells none apart pass for some seconds', async () => {
    const guard = new ReplayGuard();
    const [signature, headers] = await admission({});
    guard.admit(signature, headers, now);
    guard.admit(signature, headers, now + 1_000);
    expect(() => guard.admit(signature, headers, now + 16_000)).toThrow(REPLAYED);
  });

  it('refuses calls rather than letting one pass that it could not remember', async () => {
    const guard = new ReplayGuard(new SignatureMemory(300_000, 2));
    const first = await fromJavaScript('a');
    guard.admit(...first);
    guard.admit(...(await fromJavaScript('b')));
    const third = await fromJavaScript('c');
    expect(() => guard.admit(...third)).toThrow('as many signatures as the gateway can remember');
    expect(() => guard.admit(...first)).toThrow(REPLAYED);
  });
});

describe('signature memory', () => {
  const hex = (text: string): string => createHash('sha256').update(text).digest('hex');

  it('knows every one of many signatures, and when it came first', () => {
    const memory = new SignatureMemory(300_000);
    for (let n = 0; n < 5_000; n += 1) {
      expect(memory.sight('KEY', hex(String(n)), now + n, now + n).kind).toBe('new');
    }
    for (let n = 0; n < 5_000; n += 1) {
      expect(memory.sight('KEY', hex(String(n)), now + n, now + 50_000)).toEqual({
        kind: 'seen',
        firstAtMs: now + n,
      });
    }
    expect(memory.size).toBe(5_000);
  });

  it('forgets what is no longer good, and not before', () => {
    const memory = new SignatureMemory(300_000);
    memory.sight('KEY', hex('a'), now, now);
    memory.sight('KEY', hex('b'), now + 300_000, now + 300_000);
    expect(memory.sight('KEY', hex('a'), now, now + 300_000).kind).toBe('seen');
    memory.sight('KEY', hex('c'), now + 450_000, now + 450_000);
    expect(memory.size).toBe(2);
  });

  it('keeps room for others, whatever one key has signed', () => {
    const memory = new SignatureMemory(300_000, 800);
    const fill = (key: string): number => {
      for (let n = 0; ; n += 1) {
        if (memory.sight(key, hex(`${key} ${n}`), now, now).kind === 'full') {
          return n;
        }
      }
    };
    expect(fill('GREEDY')).toBe(700);
    expect(memory.sight('GREEDY', hex('GREEDY 0'), now, now).kind).toBe('seen');
    expect(fill('SECOND')).toBeGreaterThan(80);
    expect(memory.sight('THIRD', hex('a'), now, now).kind).toBe('new');
    // Their room is free again when they are no longer good.
    memory.sight('LATER', hex('b'), now + 450_000, now + 450_000);
    expect(memory.size).toBe(1);
    expect(memory.sight('GREEDY', hex('GREEDY 0'), now + 450_000, now + 450_000).kind).toBe('new');
  });
});
