import { describe, expect, it } from 'vitest';
import { completeImageName } from '../../../src/controller/image-name.ts';
import { goneBecause, placementFingerprint } from '../../../src/controller/node-directory.ts';
import { nodeFixture } from '../../support/worker-fixture.ts';

const node = (taints: readonly string[] = []) => ({
  metadata: { name: 'node-1' },
  spec: { taints: taints.map((key) => ({ key, effect: 'NoExecute' })) },
});

describe('goneBecause', () => {
  it('is silent while the node may come back', () => {
    expect(goneBecause(nodeFixture(), undefined, false)).toBeUndefined();
    expect(goneBecause(nodeFixture(), node(['node.kubernetes.io/unreachable']), false)).toBeUndefined();
    expect(goneBecause(nodeFixture({ status: { unschedulable: true } }), node(), false)).toBeUndefined();
    // Its agent lives, and will soon tell that there is no Node to mirror.
    expect(goneBecause(nodeFixture({ status: { unschedulable: false } }), undefined, true)).toBeUndefined();
  });

  it('tells of a deleted LambdaNode, a deleted Node and the out-of-service taint', () => {
    expect(goneBecause(undefined, node(), true)).toBe('its LambdaNode was deleted');
    expect(goneBecause(nodeFixture({ status: { unschedulable: false } }), undefined, false)).toBe(
      'its Node was deleted',
    );
    expect(goneBecause(nodeFixture(), node(['node.kubernetes.io/out-of-service']), true)).toContain(
      'out-of-service',
    );
  });
});

describe('placementFingerprint', () => {
  it('changes with what placement looks at, and with nothing else', () => {
    const before = placementFingerprint(nodeFixture());
    expect(placementFingerprint(nodeFixture({ status: { allocated: { memoryMiB: 5, workers: 1 } } }))).toBe(
      before,
    );
    expect(placementFingerprint(nodeFixture({ ready: 'False' }))).not.toBe(before);
    expect(placementFingerprint(nodeFixture({ unschedulable: true }))).not.toBe(before);
    expect(placementFingerprint(nodeFixture({ metadata: { labels: { a: 'b' } } }))).not.toBe(before);
    expect(
      placementFingerprint(nodeFixture({ status: { capacity: { memoryMiB: 1, workers: 1 } } })),
    ).not.toBe(before);
  });
});

describe('completeImageName', () => {
  it.each([
    ['python:3.12', 'docker.io/library/python:3.12'],
    ['python', 'docker.io/library/python:latest'],
    ['team/hello:1', 'docker.io/team/hello:1'],
    ['registry.example/hello', 'registry.example/hello:latest'],
    ['127.0.0.1:5000/hello:1', '127.0.0.1:5000/hello:1'],
    ['localhost/hello:1', 'localhost/hello:1'],
    ['registry.example/hello@sha256:abc', 'registry.example/hello@sha256:abc'],
  ])('of %s is %s', (reference, complete) => {
    expect(completeImageName(reference)).toBe(complete);
  });
});
