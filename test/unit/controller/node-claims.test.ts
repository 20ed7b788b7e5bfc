import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { LambdaNode, LambdaNodeStatus } from '../../../src/api/lambda-node.ts';
import { NodeLiveness } from '../../../src/controller/nodes/liveness.ts';
import { AssignmentCache } from '../../../src/controller/scheduling/assignment-cache.ts';
import { NodeSnapshot } from '../../../src/controller/scheduling/node-snapshot.ts';
import { placementFingerprint } from '../../../src/controller/scheduling/node-view.ts';
import { place } from '../../../src/controller/scheduling/place.ts';
import type { Node } from '../../../src/kube/api/resource-types.ts';
import type { KubeClient } from '../../../src/kube/api/types.ts';
import { fakeInformer } from '../../support/fake-informer.ts';
import { manualClock } from '../../support/manual-clock.ts';
import { nodeFixture, workerFixture } from '../../support/worker-fixture.ts';

const IMAGE = 'registry.example/hello:1';

const text = fc.string({ maxLength: 20 });
const amounts = fc.record({
  memoryMiB: fc.oneof(fc.nat(), fc.constantFrom(0, 1_073_741_824)),
  workers: fc.oneof(fc.nat(1_000_000), fc.constantFrom(0, 1_000_000)),
  milliCPU: fc.nat(1_000_000),
});
/** Claims of an agent about its own node, as far as the schema lets them through. */
const claims = fc.record({
  labels: fc.dictionary(fc.oneof(fc.constantFrom('pci', 'zone', '__proto__', 'constructor'), text), text),
  status: fc.record(
    {
      endpoint: text,
      certificate: text,
      versions: fc.record({ agent: text, architecture: text }, { requiredKeys: [] }),
      capacity: amounts,
      allocated: amounts,
      images: fc.array(fc.oneof(fc.constant(IMAGE), text), { maxLength: 5 }),
      leaving: fc.array(fc.oneof(fc.constant('uid-of-hello'), text), { maxLength: 3 }),
      unschedulable: fc.boolean(),
      conditions: fc.uniqueArray(
        fc.record({
          type: fc.oneof(fc.constantFrom('Ready', 'Retired'), text),
          status: fc.constantFrom('True' as const, 'False' as const, 'Unknown' as const),
          lastTransitionTime: fc.constant('2026-11-01T00:00:00Z'),
          reason: text,
          message: text,
        }),
        { maxLength: 4, selector: ({ type }) => type },
      ),
    },
    { requiredKeys: [] },
  ),
});

it('whatever a LambdaNode says, its node gets no worker that its Node does not bear the labels for', {
  tags: ['T21'],
}, () => {
  fc.assert(
    fc.property(claims, ({ labels, status }) => {
      const honest = nodeFixture({ name: 'node-1' });
      const liar: LambdaNode = { ...nodeFixture({ name: 'node-2' }), status: status as LambdaNodeStatus };
      const lambdaNodes = fakeInformer<LambdaNode>([
        honest,
        { ...liar, metadata: { ...liar.metadata, labels: { ...labels, pci: 'true' } } },
      ]);
      const nodes = fakeInformer<Node>([
        { metadata: { name: 'node-1', labels: { pci: 'true', zone: 'a' } } },
        { metadata: { name: 'node-2', labels: { zone: 'b' } }, status: { allocatable: { memory: '1Gi' } } },
      ]);
      const snapshot = new NodeSnapshot({
        client: {} as KubeClient,
        lambdaNodes: lambdaNodes.cache,
        nodes: nodes.cache,
        liveness: new NodeLiveness(),
        assignments: new AssignmentCache(),
        closures: { closureOf: () => undefined, isGrowing: () => false },
        clock: manualClock(),
      });
      for (const object of lambdaNodes.cache.list()) {
        placementFingerprint(object);
        snapshot.presence(object.metadata.name);
        snapshot.standing(workerFixture(), object.metadata.name);
      }
      const candidates = snapshot.candidates(workerFixture({ spec: { image: IMAGE } }), true);
      expect(
        place(
          { strategy: 'pack', memoryMiB: 128, tmpMiB: 0, milliCPU: 10, takesRoom: true, nodeSelector: { pci: 'true' } },
          candidates,
        ),
      ).toEqual({
        kind: 'placed',
        nodeName: 'node-1',
      });
      // Nothing that is larger than its Node.
      expect(
        place(
          { strategy: 'pack', memoryMiB: 1_025, tmpMiB: 0, milliCPU: 10, takesRoom: true, nodeSelector: { zone: 'b' } },
          candidates,
        ),
      ).toMatchObject({
        kind: 'refused',
      });
      place(
        {
          strategy: 'pack',
          memoryMiB: 128,
          milliCPU: 10,
          tmpMiB: 0,
          takesRoom: true,
          spread: { topologyKey: 'zone', maxSkew: 1, whenUnsatisfiable: 'DoNotSchedule' },
        },
        candidates,
      );
    }),
    { numRuns: 500 },
  );
});
