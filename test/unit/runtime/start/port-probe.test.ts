import { createServer } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../../src/common/clock.ts';
import { tcpConnect, waitForPort } from '../../../../src/runtime/start/port-probe.ts';
import { freePort } from '../../../support/free-port.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';

const never = new AbortController().signal;

describe('waitForPort', () => {
  it('looks at once, then often, then seldom', async () => {
    const clock = manualClock();
    let looks = 0;
    let open = false;
    const waiting = waitForPort(
      { ip: '10.0.0.1', port: 1 },
      () => {
        looks += 1;
        return Promise.resolve(open);
      },
      clock,
      never,
    );
    await settle();
    expect(looks).toBe(1);
    await clock.advance(50);
    expect(looks).toBe(51);
    await clock.advance(2000);
    looks = 0;
    await clock.advance(250);
    expect(looks).toBe(10);
    open = true;
    await clock.advance(25);
    await waiting;
  });

  it('ends with its signal', async () => {
    const controller = new AbortController();
    const waiting = waitForPort({ ip: '', port: 1 }, () => Promise.resolve(false), systemClock, controller.signal);
    controller.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'Aborted' });
  });

  it('knows an open port from one that is not', async () => {
    const port = await freePort();
    const address = { ip: '127.0.0.1', port };
    expect(await tcpConnect(address, never)).toBe(false);
    const server = createServer().listen(port, '127.0.0.1');
    onTestFinished(() => void server.close());
    await waitForPort(address, tcpConnect, systemClock, never);
    expect(await tcpConnect(address, AbortSignal.timeout(1000))).toBe(true);
  });
});

/** A port without a listener at the moment. */
