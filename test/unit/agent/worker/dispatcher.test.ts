import { describe, expect, it } from 'vitest';
import type { WorkerAnswer } from '../../../../src/agent/invoke/emulator-client.ts';
import { IssuedStamps, type Mark, SharedMarker, StampSource } from '../../../../src/agent/invoke/in-flight-marker.ts';
import type { ContainerMake } from '../../../../src/agent/model/container-spec.ts';
import { newContainer } from '../../../../src/agent/step/container.ts';
import { seen } from '../../../../src/agent/step/container-sight.ts';
import { Dispatcher } from '../../../../src/agent/worker/dispatcher.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import { desiredFixture } from '../../../support/fleet-lab.ts';
import { manualClock } from '../../../support/manual-clock.ts';
import { infoOf } from '../../../support/worker-steps.ts';

describe('a call into a container', () => {
  const desired = desiredFixture();
  const make: ContainerMake = {
    id: 'w',
    shapeHash: 'v1-a',
    memoryMiB: 1,
    ephemeralStorageMiB: 1,
    timeoutSeconds: 3,
    runtimeInterface: 'Emulator',
  };
  const info = infoOf('w', desired, { kind: 'Running', pid: 1 });
  const container = seen(newContainer(make, 0), { info, lost: false }, 0);

  /** Events, in order, of a call that ends in that way. */
  async function run(answer: WorkerAnswer, marked = true): Promise<string[]> {
    const log: string[] = [];
    const note = (what: string) => () => void log.push(what);
    const mark: Mark = {
      begin: note('mark'),
      end: note('unmark'),
      keep: note('keep'),
      forget: note('forget'),
      release: note('release'),
      remove: note('remove'),
    };
    const clock = manualClock();
    const dispatcher = new Dispatcher({
      clock,
      logger: silentLogger(),
      runtime: {
        logOffset: () => Promise.resolve(0),
        readLog: () => Promise.resolve(Buffer.alloc(0)),
        readLogSince: () => Promise.resolve(Buffer.alloc(0)),
      },
      initOf: () => undefined,
      connect: () => ({
        abort: note('abort'),
        close: note('close'),
        call: (request) => {
          if (answer.kind !== 'NotSent') {
            request.onSending();
            log.push('first byte');
            request.onHead({ status: 200, contentType: '' });
          }
          return Promise.resolve(answer);
        },
      }),
      mark: new SharedMarker(mark, undefined),
      stamps: new IssuedStamps(new StampSource(clock)),
    });
    const outcome = await dispatcher.call({
      container,
      functionName: 'hello',
      invocation: {
        payload: Buffer.from('{}'),
        requestId: 'r',
        clientContext: '',
        tailLog: false,
        onHead: () => undefined,
        onChunk: () => undefined,
      },
      marked,
      attempt: 3,
    });
    return [...log, outcome.kind];
  }

  it('is marked before its first byte is sent, and no more once it is answered', async () => {
    expect(await run({ kind: 'Answered', status: 200 })).toEqual(['mark', 'first byte', 'unmark', 'Answered']);
  });

  it.each(['Unknown', 'TimedOut'] as const)('stays marked when it ends %s: it may go on', async (kind) => {
    const answer = kind === 'Unknown' ? { kind, message: 'reset' } : { kind };
    expect(await run(answer)).toEqual(['mark', 'first byte', kind]);
  });

  it('leaves no mark when nothing was sent', async () => {
    expect(await run({ kind: 'NotSent', message: 'refused' })).toEqual(['NotSent']);
  });

  it('leaves no mark where it is not to', async () => {
    expect(await run({ kind: 'Answered', status: 200 }, false)).toEqual(['first byte', 'Answered']);
  });
});
