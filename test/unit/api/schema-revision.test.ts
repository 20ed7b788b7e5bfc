import { describe, expect, it } from 'vitest';
import { DEFINITION_NAMES, SCHEMA_REVISION, waitForSchema } from '../../../src/api/schema-revision.ts';
import type { Health } from '../../../src/common/health.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import { ApiError } from '../../../src/kube/api/api-error.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { manualClock, settle } from '../../support/manual-clock.ts';

describe('waitForSchema', () => {
  it('waits until every definition is there in the revision that is needed, and says what it waits for', async () => {
    let answer: (name: string) => object | undefined = () => {
      throw ApiError.unreachable('get', new Error('refused'));
    };
    const client = {
      get: async (_type: unknown, key: { name: string }) => answer(key.name),
    } as unknown as KubeClient;
    const clock = manualClock();
    const reports: Health[] = [];
    let done = false;
    const waiting = waitForSchema(
      {
        client,
        clock,
        logger: silentLogger(),
        unreadable: 'ApiServerUnavailable',
        report: (health) => reports.push(health),
      },
      new AbortController().signal,
    ).then(() => {
      done = true;
    });
    const definition = (name: string, revision: number) => ({
      metadata: { name, annotations: { 'esb.dev/schema-revision': String(revision) } },
    });

    await settle();
    expect(reports.at(-1)).toMatchObject({ ok: false, reason: 'ApiServerUnavailable' });
    answer = () => undefined;
    await clock.advance(3_000);
    await settle();
    expect(reports.at(-1)).toMatchObject({ reason: 'DefinitionMissing' });
    answer = (name) => definition(name, name === DEFINITION_NAMES[1] ? SCHEMA_REVISION - 1 : SCHEMA_REVISION);
    await clock.advance(3_000);
    await settle();
    expect(reports.at(-1)).toMatchObject({
      reason: 'DefinitionTooOld',
      message: expect.stringContaining('crds/') as string,
    });
    expect(done).toBe(false);
    answer = (name) => definition(name, SCHEMA_REVISION);
    await clock.advance(3_000);
    await waiting;
    expect(done).toBe(true);
  });
});
