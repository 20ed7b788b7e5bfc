import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { uninstall } from '../../../../src/agent/node/uninstall.ts';
import type { Health } from '../../../../src/common/health.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { FakeRuntime } from '../../../support/fake-runtime.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait-for.ts';

function world() {
  const folder = mkdtempSync(join(tmpdir(), 'esb-departure-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const [stateDir, runDir] = [join(folder, 'state'), join(folder, 'run')];
  for (const each of ['workers', 'logs', 'cni']) {
    mkdirSync(join(stateDir, each), { recursive: true });
  }
  for (const each of ['runc', 'hosts']) {
    mkdirSync(join(runDir, each), { recursive: true });
  }
  for (const file of [join(stateDir, 'server.pem'), join(runDir, 'uid-1.mark')]) {
    writeFileSync(file, 'something');
  }
  const clock = manualClock();
  const runtime = new FakeRuntime(() => clock.now());
  let health: Health | undefined;
  const told: (Health | undefined)[] = [];
  let apiAway = 0;
  const stop = new AbortController();
  const leave = async (): Promise<void> => {
    let ended = false;
    const leaving = uninstall(
      {
        runtime,
        health: { note: () => undefined, retirement: (next) => (health = next) },
        registration: {
          takeLeave: async () => {
            if (apiAway > 0) {
              apiAway -= 1;
              throw new Error('the API server is away');
            }
            told.push(health);
            return true;
          },
        },
        stateDir,
        runDir,
        clock,
        logger: silentLogger(),
      },
      stop.signal,
    ).finally(() => (ended = true));
    leaving.catch(() => undefined);
    await waitFor(
      'the end',
      async () => {
        await clock.advance(5_000);
        return ended;
      },
      { everyMs: 10 },
    );
    await leaving;
  };
  return {
    runtime,
    stateDir,
    runDir,
    told,
    leave,
    stop,
    loseApi: (attempts: number) => {
      apiAway = attempts;
    },
  };
}

describe('leaving a node', () => {
  it('removes its files and folders and says so last', async () => {
    const { leave, stateDir, runDir, told } = world();
    await leave();
    expect(existsSync(stateDir)).toBe(false);
    expect(existsSync(runDir)).toBe(false);
    expect(told).toEqual([{ ok: true }]);
  });

  it('leaves what others keep in its folders', async () => {
    const { leave, stateDir, told } = world();
    writeFileSync(join(stateDir, 'of-others'), 'something');
    await leave();
    expect(readdirSync(stateDir)).toEqual(['of-others']);
    expect(told).toEqual([{ ok: true }]);
  });

  it('tells what cannot be removed, and tries until it can', async () => {
    const { leave, runtime, told } = world();
    runtime.obstacles.push(['bridge esb0: busy'], ['bridge esb0: busy']);
    await leave();
    const stays = {
      ok: false,
      reason: 'RemovalFailed',
      message: 'what ESB made cannot be removed: bridge esb0: busy',
    };
    expect(told).toEqual([stays, stays, { ok: true }]);
  });

  it('says it later when the API server is away', async () => {
    const { leave, loseApi, told } = world();
    loseApi(3);
    await leave();
    expect(told).toEqual([{ ok: true }]);
  });

  it('ends without a word when the agent is stopped before it is done', async () => {
    const { leave, runtime, stop, stateDir, told } = world();
    runtime.obstacles.push(['bridge esb0: busy']);
    stop.abort(new Error('stopped'));
    await expect(leave()).rejects.toThrow('stopped');
    expect(existsSync(stateDir)).toBe(true);
    expect(told).toEqual([]);
  });
});
