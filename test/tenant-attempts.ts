/** Attempt of an author of LambdaWorkers in one namespace, and the part of ESB that refuses or contains the attempt. */
export interface TenantAttempt {
  readonly attempt: string;
  readonly by: 'API server' | 'agent' | 'node' | 'gateway' | 'controller';
}

/** Attempts by the tag of the test of each. The page about security lists them: `npm run generate`. */
export const tenantAttempts: Readonly<Record<string, TenantAttempt>> = {
  T1: { attempt: 'the network of the node for a new worker', by: 'API server' },
  T2: { attempt: 'the network of the node for a worker that is there', by: 'API server' },
  T3: { attempt: 'a writable root, to fill the disk', by: 'API server' },
  T4: { attempt: 'a huge `/tmp`', by: 'API server' },
  T5: { attempt: 'a port of the node', by: 'API server' },
  T6: { attempt: 'privileges, or a folder of the node', by: 'API server' },
  T7: { attempt: 'a Secret of another namespace in a variable', by: 'API server' },
  T8: { attempt: 'Secrets of others, or of ESB, by its token', by: 'API server' },
  T9: { attempt: 'a worker in another namespace', by: 'API server' },
  T10: { attempt: 'the label that lets its namespace', by: 'API server' },
  T11: { attempt: 'the assignment, or a stamp of activity', by: 'API server' },
  T12: { attempt: 'a LambdaNode, or labels of one', by: 'API server' },
  T13: { attempt: 'the certificate of a gateway', by: 'API server' },
  T14: { attempt: 'to take the policy away', by: 'API server' },
  T15: { attempt: 'the account of the controller or of an agent', by: 'API server' },
  T16: { attempt: 'the uid of another worker', by: 'API server' },
  T17: { attempt: 'an age from before the policy', by: 'API server' },
  T18: { attempt: 'a worker that the policy did not see', by: 'agent' },
  T19: { attempt: 'an image that was pulled with the Secrets of others', by: 'agent' },
  T20: { attempt: 'an id of a container that is another worker’s', by: 'agent' },
  T21: { attempt: 'nodes that lie about their labels', by: 'controller' },
  T22: { attempt: 'the metadata address', by: 'node' },
  T23: { attempt: 'other workers', by: 'node' },
  T24: { attempt: 'ports of the node: kubelet, agent, SSH', by: 'node' },
  T25: { attempt: 'a fork bomb', by: 'node' },
  T26: { attempt: 'more memory than it may have', by: 'node' },
  T27: { attempt: 'more files than `/tmp` may have', by: 'node' },
  T28: { attempt: 'a record of an event for the metadata address or the gateway itself', by: 'gateway' },
  T29: { attempt: 'an answer without end', by: 'node' },
  T30: { attempt: 'bodies that come slowly', by: 'gateway' },
  T31: { attempt: 'a larger quota, or none', by: 'API server' },
  T32: { attempt: 'more than its quota, by one worker that grows or by many at once', by: 'controller' },
  T33: { attempt: 'a class of destinations that its namespace may not name', by: 'API server' },
  T34: { attempt: 'destinations outside of its class', by: 'node' },
  T35: { attempt: 'a call of a function that it may not call, by a destination', by: 'API server' },
};
