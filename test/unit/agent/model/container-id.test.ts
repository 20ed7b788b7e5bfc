import { describe, expect, it } from 'vitest';
import { containerIdOf } from '../../../../src/agent/model/container-id.ts';
import { isOwnName } from '../../../../src/runtime/containerd/inventory.ts';

const identity = { namespace: 'default', name: 'hello', uid: 'c7d2f0f5-0a2b-4d6e-9f51-6a1f6a4f1f00' };

describe('the id of a container', () => {
  it('carries 128 bits of a digest, and is the same whenever it is asked for', { tags: ['T20'] }, () => {
    const id = containerIdOf(identity, 'v1-a');
    expect(id).toMatch(/^hello-[0-9a-f]{32}$/);
    expect(containerIdOf({ ...identity }, 'v1-a')).toBe(id);
    expect(containerIdOf(identity, 'v1-a', 0)).toBe(id);
    expect(isOwnName(id)).toBe(true);
  });

  it.each([
    ['namespace', { ...identity, namespace: 'others' }, 'v1-a', 0],
    ['uid', { ...identity, uid: 'another' }, 'v1-a', 0],
    ['shape', identity, 'v1-b', 0],
    ['generation', identity, 'v1-a', 1],
  ])('is another one for another %s', (_, other, shapeHash, generation) => {
    expect(containerIdOf(other, shapeHash, generation)).not.toBe(containerIdOf(identity, 'v1-a'));
  });

  it('of a worker with the longest name is one that containerd and the kernel take', () => {
    const id = containerIdOf({ ...identity, name: `${'a'.repeat(29)}.${'b'.repeat(223)}` }, 'v1-a');
    expect(id).toMatch(/^a{29}-[0-9a-f]{32}$/);
    expect(containerIdOf({ ...identity, name: 'a'.repeat(253) }, 'v1-a')).toHaveLength(63);
  });
});
