import type { CallOptions } from '../../common/deadline.ts';
import { type CommandRunner, LONG_OUTPUT_BYTES } from '../../common/exec/command-runner.ts';
import { runNodeCommand } from '../host/node-command.ts';
import { nodeInterfacesOf } from '../spec/cni-result.ts';
import { isObject, listOf } from '../spec/network-config.ts';
import { ResultCache } from '../spec/result-cache.ts';

/** Ports of the workers' bridges, and the claimed ones among them. */
export interface BridgePorts {
  readonly ports: readonly string[];
  readonly claimed: ReadonlySet<string>;
}

/**
 * Interfaces on the workers' bridges whose other end is in no known namespace: a namespace without a name lives for as
 * long as a process is in it, and holds a port of the bridge.
 */
export class OrphanVeths {
  readonly #results: ResultCache;
  readonly #runner: CommandRunner;

  /** @param cniFolder `cni` in the agent's state folder, with CNI's own results of our attachments */
  constructor(cniFolder: string, runner: CommandRunner) {
    this.#results = new ResultCache(cniFolder);
    this.#runner = runner;
  }

  async read(options: CallOptions = {}): Promise<BridgePorts> {
    const interfaces = (await this.#results.all()).flatMap(nodeInterfacesOf);
    const bridges = new Set(interfaces.filter((name) => !isVeth(name)));
    const claimed = new Set(interfaces.filter(isVeth));
    if (bridges.size === 0) {
      return { ports: [], claimed };
    }
    const text = await runNodeCommand(this.#runner, 'ip', ['-j', 'link', 'show', 'type', 'veth'], {
      ...options,
      maxOutputBytes: LONG_OUTPUT_BYTES,
      errorCode: 'NetworkFailed',
    });
    return { ports: portsOf(text, bridges), claimed };
  }

  /** Removes an interface unless it is claimed by now. Returns whether it was there. */
  async remove(name: string, options: CallOptions = {}): Promise<boolean> {
    const { ports, claimed } = await this.read(options);
    if (!ports.includes(name) || claimed.has(name)) {
      return false;
    }
    await runNodeCommand(this.#runner, 'ip', ['link', 'delete', name], { ...options, errorCode: 'NetworkFailed' });
    return true;
  }
}

/** Tells the ends of the workers' cables, by the names that the plugin gives, from their bridges. */
function isVeth(name: string): boolean {
  return name.startsWith('veth');
}

/** Names of the interfaces in the output of `ip -j link` that are ports of one of the bridges. */
export function portsOf(text: string, bridges: ReadonlySet<string>): readonly string[] {
  const links: unknown = text.trim() === '' ? [] : JSON.parse(text);
  return listOf(links).flatMap((link) =>
    isObject(link) && typeof link.ifname === 'string' && typeof link.master === 'string' && bridges.has(link.master)
      ? [link.ifname]
      : [],
  );
}
