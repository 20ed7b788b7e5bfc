import { expect, it } from 'vitest';
import { promisedCapacity as promisedOn } from '../../../../src/agent/node/promised-capacity.ts';
import type { Node } from '../../../../src/kube/api/resource-types.ts';

const flags = { maxWorkers: 1_000 };
const node = (memory: string, cpu?: string): Node => ({
  metadata: { name: 'node-1' },
  status: { allocatable: { memory, ...(cpu === undefined ? {} : { cpu }) } },
});
type Given = Parameters<typeof promisedOn>;
/** On a machine of four processors. */
const promisedCapacity = (...given: [Given[0], Given[1], Given[2], Given[3]]) => promisedOn(...given, 4);

it('a node promises 70 % of the memory that Pods may have there, in steps of 64 MiB', () => {
  expect(promisedCapacity(flags, undefined, node('2800Mi'), 4_096)).toEqual({
    memoryMiB: 1_920,
    milliCPU: 2_800,
    workers: 1_000,
  });
  expect(promisedCapacity(flags, undefined, node('2950000Ki'), 4_096).memoryMiB).toBe(1_984);
});

it('a node without a Node promises 70 % of the machine, and one whose Node claims more no more than that', () => {
  expect(promisedCapacity(flags, undefined, undefined, 4_096.5).memoryMiB).toBe(2_816);
  expect(promisedCapacity(flags, undefined, node('1Ti'), 4_096).memoryMiB).toBe(2_816);
  expect(promisedCapacity(flags, undefined, { metadata: { name: 'node-1' } }, 4_096).memoryMiB).toBe(2_816);
});

it('the flags of the agent hold for all nodes, and the wish of its owner for one', () => {
  const given = { memoryMiB: 1_000, maxWorkers: 50 };
  expect(promisedCapacity(given, undefined, node('2800Mi'), 4_096)).toMatchObject({ memoryMiB: 1_000, workers: 50 });
  expect(promisedCapacity(given, { memoryMiB: 3_000 }, node('2800Mi'), 4_096)).toMatchObject({
    memoryMiB: 3_000,
    workers: 50,
  });
  expect(promisedCapacity(given, { memoryMiB: 0, workers: 10 }, undefined, 4_096)).toMatchObject({
    memoryMiB: 0,
    workers: 10,
  });
});

it('no wish goes beyond the machine, nor beyond the networks that are set up', () => {
  expect(promisedCapacity(flags, { memoryMiB: 100_000, workers: 5_000 }, undefined, 4_096.7)).toMatchObject({
    memoryMiB: 4_096,
    workers: 1_000,
  });
});

it('a node promises 70 % of the CPU that Pods may have there, or as its owner wishes, and no more than Pods may have', () => {
  expect(promisedCapacity(flags, undefined, node('1Gi', '3500m'), 4_096).milliCPU).toBe(2_450);
  expect(promisedCapacity(flags, undefined, node('1Gi', '8'), 4_096).milliCPU).toBe(2_800);
  expect(promisedCapacity(flags, { milliCPU: 3_200 }, node('1Gi', '3500m'), 4_096).milliCPU).toBe(3_200);
  expect(promisedCapacity(flags, { milliCPU: 9_000 }, node('1Gi', '3500m'), 4_096).milliCPU).toBe(3_500);
});
