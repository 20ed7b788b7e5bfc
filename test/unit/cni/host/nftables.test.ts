import { expect, it } from 'vitest';
import { readForwardDroppers } from '../../../../src/cni/host/nftables.ts';
import { type CommandRunner, systemCommandRunner } from '../../../../src/common/exec/command-runner.ts';

/** Prints what nft prints on a node with so many chains of kube-proxy, and the forward chain of another program. */
const script = `
  printf '{"nftables": [{"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "policy": "drop"}}'
  seq -f ', {"chain": {"family": "ip", "table": "nat", "name": "KUBE-SEP-%016.0f", "handle": 1}}' 40000
  printf ']}'`;

it('the packet filter of a node with many Services is read', async () => {
  const runner: CommandRunner = {
    run: (request) => systemCommandRunner.run({ ...request, program: '/bin/sh', args: ['-c', script] }),
  };
  expect(await readForwardDroppers(runner)).toEqual(['ip filter FORWARD']);
});
