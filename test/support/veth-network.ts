import type { Attachment, NodeNetwork } from '../../src/cni/contract.ts';
import type { CallOptions } from '../../src/common/deadline.ts';
import { AbortedError } from '../../src/common/deadline.ts';
import type { EsbError } from '../../src/common/errors.ts';
import { run } from './command.ts';

/** A network without plugins: each worker has a cable of its own to a namespace that stands for the node. */
export interface VethNetwork extends NodeNetwork {
  /** Makes the next attachment fail with it. */
  failWith: EsbError | undefined;
  /** While set, attachments wait for it. */
  hold: Promise<void> | undefined;
}

/** @param node name of the namespace that stands for the node; names of the workers' begin with it */
export function createVethNetwork(node: string): VethNetwork {
  const attachments = new Map<string, Attachment & { readonly netns: string }>();
  let count = 0;

  async function detach(containerId: string): Promise<void> {
    const found = attachments.get(containerId);
    if (found !== undefined) {
      await run('ip', ['netns', 'delete', found.netns]);
      attachments.delete(containerId);
    }
  }

  async function attach(containerId: string, options: CallOptions = {}): Promise<Attachment> {
    const there = attachments.get(containerId);
    if (there !== undefined) {
      return there;
    }
    if (network.failWith !== undefined) {
      const error = network.failWith;
      network.failWith = undefined;
      throw error;
    }
    count += 1;
    const number = count;
    const netns = `${node}-${number}`;
    const [high, low] = [number >> 6, (number & 63) * 4];
    const [gateway, ip] = [`10.99.${high}.${low + 1}`, `10.99.${high}.${low + 2}`];
    await run('ip', ['netns', 'add', netns]);
    attachments.set(containerId, { containerId, netns, netnsPath: `/run/netns/${netns}`, ip });
    await run('ip', ['-n', node, '-batch', '-'], {
      input: [
        `link add v${number} type veth peer name eth0 netns ${netns}`,
        `addr add ${gateway}/30 dev v${number}`,
        `link set v${number} up`,
      ].join('\n'),
    });
    await run('ip', ['-n', netns, '-batch', '-'], {
      input: ['link set lo up', `addr add ${ip}/30 dev eth0`, 'link set eth0 up'].join('\n'),
    });
    await network.hold;
    if (options.signal?.aborted === true) {
      await detach(containerId);
      throw new AbortedError('attaching');
    }
    return { containerId, netnsPath: `/run/netns/${netns}`, ip };
  }

  const network: VethNetwork = {
    slots: { ready: 0, wanted: 0 },
    failWith: undefined,
    hold: undefined,
    attach,
    detach,
    start: () => Promise.resolve(),
    stop: () => Promise.resolve(),
    get: (containerId) => Promise.resolve(attachments.get(containerId)),
    list: () => Promise.resolve([...attachments.values()]),
    async remove() {
      await Promise.all([...attachments.keys()].map((containerId) => detach(containerId)));
      return [];
    },
    repair: () => Promise.resolve([]),
    health: () => Promise.resolve({ ok: true }),
  };
  return network;
}
