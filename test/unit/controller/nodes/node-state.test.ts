import { describe, expect, it } from 'vitest';
import type { Condition } from '../../../../src/api/condition.ts';
import type { LambdaNode } from '../../../../src/api/lambda-node.ts';
import {
  earlierClosure,
  earlierLives,
  type NodeState,
  nodeStatePatch,
} from '../../../../src/controller/nodes/node-state.ts';
import { nodeFixture } from '../../../support/worker-fixture.ts';

const NOW = Date.parse('2026-11-01T01:00:00Z');
const well: NodeState = { life: { kind: 'fresh' }, closure: undefined };
const lost: NodeState = { life: { kind: 'lost', isConfirmed: true }, closure: undefined };
const waits: NodeState = { life: { kind: 'unreachable', because: 'RateLimited' }, closure: undefined };

/** Conditions that the write applies; undefined where there is none. */
function applied(node: LambdaNode, state: NodeState): readonly Condition[] | undefined {
  const patch = nodeStatePatch(node, state, NOW);
  return (patch?.body as { status: { conditions: readonly Condition[] } } | undefined)?.status.conditions;
}

/** The node once the API server has carried out the write: the controller owns what it applies, and no more. */
function written(node: LambdaNode, state: NodeState): LambdaNode {
  const conditions = applied(node, state);
  if (conditions === undefined) {
    return node;
  }
  const others = (node.status?.conditions ?? []).filter(
    ({ type }) =>
      !['Lost', 'Unreachable', 'Draining', 'Unheld'].includes(type) && conditions.every((one) => one.type !== type),
  );
  return { ...node, status: { ...node.status, conditions: [...others, ...conditions] } };
}

/** The agent writes that its node is ready. */
function reports(node: LambdaNode): LambdaNode {
  const ready = nodeFixture().status?.conditions ?? [];
  const others = (node.status?.conditions ?? []).filter(({ type }) => type !== 'Ready');
  return { ...node, status: { ...node.status, conditions: [...ready, ...others] } };
}

const types = (node: LambdaNode) =>
  (node.status?.conditions ?? []).map(({ type, status, reason }) => `${type} ${status} ${reason}`).toSorted();

describe('the state of a node in its LambdaNode', () => {
  it('is nothing, and no write, while the node is well or only quiet', () => {
    expect(applied(nodeFixture(), well)).toBeUndefined();
    expect(applied(nodeFixture(), { ...well, life: { kind: 'quiet' } })).toBeUndefined();
  });

  it('makes Ready Unknown with the silence, and says what follows', () => {
    expect(types(written(nodeFixture(), waits))).toEqual([
      'Ready Unknown NodeUnreachable',
      'Unreachable True RateLimited',
    ]);
    expect(types(written(written(nodeFixture(), waits), lost))).toEqual([
      'Lost True LeaseExpired',
      'Ready Unknown NodeUnreachable',
    ]);
    expect(applied(nodeFixture(), lost)).toContainEqual({
      type: 'Lost',
      status: 'True',
      lastTransitionTime: '2026-11-01T01:00:00Z',
      reason: 'LeaseExpired',
      message: 'its Lease is not renewed; its workers are served elsewhere where they can be',
    });
  });

  it('is written once', () => {
    for (const state of [waits, lost, { ...lost, closure: 'unheld' as const }]) {
      expect(applied(written(nodeFixture(), state), state)).toBeUndefined();
    }
  });

  it('is for the version alone that was read', () => {
    const node = nodeFixture({ metadata: { resourceVersion: '7', generation: 3 } });
    const patch = nodeStatePatch(node, lost, NOW);
    expect(patch).toMatchObject({ kind: 'apply', fieldManager: 'esb-controller' });
    expect(patch?.body).toMatchObject({
      metadata: { resourceVersion: '7' },
      status: { conditions: [{ observedGeneration: 3 }, { observedGeneration: 3 }] },
    });
  });

  it('leaves Ready as it is after the silence, until the agent has written what holds', () => {
    const heard = written(written(nodeFixture(), lost), well);
    expect(types(heard)).toEqual(['Ready Unknown NodeUnreachable']);
    expect(applied(heard, well)).toBeUndefined();
    const reported = reports(heard);
    expect(applied(reported, well)).toBeUndefined();
    expect(types(written(reported, lost))).toEqual(['Lost True LeaseExpired', 'Ready Unknown NodeUnreachable']);
  });

  it('does not quarrel with an agent that reports and renews no Lease', () => {
    const reported = reports(written(nodeFixture(), waits));
    expect(applied(reported, waits)).toBeUndefined();
    expect(types(written(reported, lost))).toEqual(['Lost True LeaseExpired', 'Ready True Ready']);
    expect(types(written(written(reported, lost), well))).toEqual(['Ready True Ready']);
  });

  it('says whether the hold Pod closes the node, beside all else', () => {
    const draining = written(nodeFixture(), { ...lost, closure: 'draining' });
    expect(types(draining)).toEqual([
      'Draining True WorkersLeave',
      'Lost True LeaseExpired',
      'Ready Unknown NodeUnreachable',
    ]);
    expect(types(written(nodeFixture(), { ...well, closure: 'unheld' }))).toEqual([
      'Ready True Ready',
      'Unheld True MemoryNotReserved',
    ]);
    expect(types(written(written(nodeFixture(), { ...well, closure: 'unheld' }), well))).toEqual(['Ready True Ready']);
  });

  it('says why Pods are refused, in words that a controller keeps which has just begun to lead', () => {
    const because = 'create: must be less than or equal to memory limit of 512Mi';
    const told = written(nodeFixture(), { ...well, closure: 'unheld', because });
    const message = told.status?.conditions?.find(({ type }) => type === 'Unheld')?.message;
    expect(message).toBe(`the memory of its workers is not reserved, so that no more workers come: ${because}`);
    expect(applied(told, { ...well, closure: 'unheld' })).toBeUndefined();
  });
});

describe('the controller that leads next', () => {
  const read = (state: NodeState) => {
    const node = written(nodeFixture(), state);
    return { life: earlierLives([node], NOW + 60_000).get('node-1'), closure: earlierClosure(node) };
  };

  it('reads back what was found', () => {
    expect(read(well)).toEqual({ life: undefined, closure: undefined });
    expect(read(lost)).toEqual({
      life: { life: { kind: 'lost', isConfirmed: false }, forMs: 60_000 },
      closure: undefined,
    });
    for (const because of ['AgentStarting', 'ManyUnreachable', 'NoNodeHeard', 'RateLimited'] as const) {
      const life = { kind: 'unreachable', because } as const;
      expect(read({ life, closure: 'unheld' })).toEqual({ life: { life, forMs: 60_000 }, closure: 'unheld' });
    }
    expect(read({ ...well, closure: 'draining' }).closure).toBe('draining');
  });

  it('takes a reason of a later release for a node that waits for its turn', () => {
    const node = written(nodeFixture(), waits);
    const conditions = (node.status?.conditions ?? []).map((one) =>
      one.type === 'Unreachable' ? { ...one, reason: 'constructor' } : one,
    );
    expect(earlierLives([{ ...node, status: { ...node.status, conditions } }], NOW).get('node-1')?.life).toEqual(
      waits.life,
    );
  });

  it('finds nothing in a LambdaNode without such conditions', () => {
    expect(
      earlierLives([nodeFixture(), { metadata: { name: 'bare' }, spec: { unschedulable: false, retired: false } }], NOW)
        .size,
    ).toBe(0);
    expect(earlierClosure(nodeFixture())).toBeUndefined();
  });
});
