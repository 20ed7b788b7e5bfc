import type { TestName } from './pitfalls.ts';

/** What somebody who may write LambdaWorkers in one namespace could try, and the test that shows it refused or contained. */
export interface TenantAttempt {
  readonly attempt: string;
  /** Who stops it. */
  readonly by: 'API server' | 'agent' | 'node' | 'gateway' | 'controller';
  readonly test: TestName;
}

const tenant = 'integration/chart/tenant.test.ts';
const inside = 'integration/agent/containment.test.ts';
const created: TestName = [tenant, 'is refused a new worker with %s, and told of the field'];
const changed: TestName = [tenant, 'is refused a change to %s'];
const rights: TestName = [tenant, 'is refused %s by its rights'];
const forged: TestName = [
  tenant,
  'cannot make a worker that passes for another one, an older one, or one that is being deleted',
];

export const tenantAttempts: readonly TenantAttempt[] = [
  { attempt: 'the network of the node for a new worker', by: 'API server', test: created },
  { attempt: 'the network of the node for a worker that is there', by: 'API server', test: changed },
  { attempt: 'a writable root, to fill the disk', by: 'API server', test: created },
  { attempt: 'a huge `/tmp`', by: 'API server', test: created },
  { attempt: 'a port of the node', by: 'API server', test: created },
  { attempt: 'privileges, or a folder of the node', by: 'API server', test: created },
  { attempt: 'a Secret of another namespace in a variable', by: 'API server', test: created },
  { attempt: 'Secrets of others, or of ESB, by its token', by: 'API server', test: rights },
  { attempt: 'a worker in another namespace', by: 'API server', test: rights },
  { attempt: 'the label that lets its namespace', by: 'API server', test: rights },
  { attempt: 'the assignment, or a stamp of activity', by: 'API server', test: rights },
  { attempt: 'a LambdaNode, or labels of one', by: 'API server', test: rights },
  { attempt: 'the certificate of a gateway', by: 'API server', test: rights },
  { attempt: 'to take the policy away', by: 'API server', test: rights },
  { attempt: 'the account of the controller or of an agent', by: 'API server', test: rights },
  { attempt: 'the uid of another worker', by: 'API server', test: forged },
  { attempt: 'an age from before the policy', by: 'API server', test: forged },
  {
    attempt: 'a worker that the policy did not see',
    by: 'agent',
    test: [
      'integration/agent/worker-policy.test.ts',
      'makes no container of what was made since, until its namespace is let',
    ],
  },
  {
    attempt: 'an image that was pulled with the Secrets of others',
    by: 'API server',
    test: [tenant, 'is refused an image that its registry is not asked for, where that is wished'],
  },
  {
    attempt: 'an id of a container that is another worker’s',
    by: 'agent',
    test: [
      'unit/agent/model/container-id.test.ts',
      'carries 128 bits of a digest, and is the same whenever it is asked for',
    ],
  },
  {
    attempt: 'nodes that lie about their labels',
    by: 'controller',
    test: [
      'unit/controller/node-claims.test.ts',
      'whatever a LambdaNode says, its node gets no worker that its Node does not bear the labels for',
    ],
  },
  {
    attempt: 'the metadata address',
    by: 'node',
    test: [inside, 'has no way to the metadata address'],
  },
  { attempt: 'other workers', by: 'node', test: [inside, 'has no way to another worker'] },
  {
    attempt: 'ports of the node: kubelet, agent, SSH',
    by: 'node',
    test: [inside, 'has no way to what listens on the node, on any of its addresses'],
  },
  {
    attempt: 'a fork bomb',
    by: 'node',
    test: [inside, 'of processes is held to their number, and told'],
  },
  {
    attempt: 'more memory than it may have',
    by: 'node',
    test: [inside, 'of memory in the worker itself ends it alone, and is told'],
  },
  {
    attempt: 'more files than `/tmp` may have',
    by: 'node',
    test: [inside, 'of files in /tmp is held to its size, and takes nothing of the function’s memory'],
  },
  {
    attempt: 'a record of failure for the metadata address or the gateway itself',
    by: 'gateway',
    test: [
      'unit/gateway/events/event-destination.test.ts',
      'does not post to the machine of the gateway, by whatever name, unless a range lets it',
    ],
  },
  {
    attempt: 'an answer without end',
    by: 'node',
    test: [
      'unit/agent/invoke/emulator-client.test.ts',
      'reads no more of an answer than a function may give',
    ],
  },
  {
    attempt: 'bodies that come slowly',
    by: 'gateway',
    test: [
      'unit/gateway/http/request-body.test.ts',
      'that is slow has ten seconds, and after that has to come with 8 KiB a second',
    ],
  },
];
