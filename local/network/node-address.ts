/** The network addresses of one node of a local instance. */
export interface NodeAddress {
  /** 1, 2, … */
  readonly number: number;
  /** Network namespace below /run/netns; undefined for the first node, which is in the host's own. */
  readonly namespace?: string;
  /** Address of the host as the node sees it. */
  readonly host: string;
  /** Address of the node as the host sees it. */
  readonly node: string;
  /** The host's end of the cable to the namespace. */
  readonly link?: string;
}

/** All addresses of the cables between the host and nodes. */
export const NODE_LINKS = '10.235.0.0/16';

/** The address plan: node-1 is the host; node-N has 10.235.N.2, cabled to 10.235.N.1 on the host. */
export function nodeAddress(name: string): NodeAddress {
  const number = Number(/^node-(\d+)$/.exec(name)?.[1] ?? 1);
  if (number === 1) {
    return { number, host: '127.0.0.1', node: '127.0.0.1' };
  }
  return {
    number,
    namespace: `esb-node-${number}`,
    host: `10.235.${number}.1`,
    node: `10.235.${number}.2`,
    link: `esb-node-${number}`,
  };
}

/** Path of a network namespace by its name. */
export function netnsPath(namespace: string): string {
  return `/run/netns/${namespace}`;
}
