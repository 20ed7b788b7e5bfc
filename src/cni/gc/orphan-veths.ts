import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CallOptions } from '../../common/deadline.ts';
import { undefinedIfNoFile } from '../../common/errors.ts';
import { type CommandRunner, LONG_OUTPUT_BYTES } from '../../common/exec/command-runner.ts';
import { runNodeCommand } from '../host/node-command.ts';
import { nodeInterfacesOf, parseJson } from '../spec/cni-result.ts';
import { isObject, listOf } from '../spec/network-config.ts';

/** Ports of the workers' bridges, and the claimed ones among them. */
export interface BridgePorts {
  readonly ports: readonly string[];
  readonly claimed: ReadonlySet<string>;
}

/** The node's interfaces in one result of CNI ADD. */
interface CachedInterfaces {
  readonly bridges: readonly string[];
  readonly ports: readonly string[];
}

/**
 * Interfaces on the workers' bridges whose other end is in no known namespace: a namespace without a name lives for as
 * long as a process is in it, and holds a port of the bridge.
 */
export class OrphanVeths {
  readonly #results: string;
  readonly #runner: CommandRunner;

  /** @param cniFolder `cni` in the agent's state folder, with CNI's own results of our attachments */
  constructor(cniFolder: string, runner: CommandRunner) {
    this.#results = join(cniFolder, 'results');
    this.#runner = runner;
  }

  async read(options: CallOptions = {}): Promise<BridgePorts> {
    const results = await this.#cached();
    const bridges = new Set(results.flatMap((result) => result.bridges));
    const claimed = new Set(results.flatMap((result) => result.ports));
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

  async #cached(): Promise<readonly CachedInterfaces[]> {
    const found: CachedInterfaces[] = [];
    for (const file of (await undefinedIfNoFile(readdir(this.#results))) ?? []) {
      // A file that is gone again, or half written, is complete at the next read.
      const text = await readFile(join(this.#results, file), 'utf8').catch(() => '');
      found.push(interfacesIn(text));
    }
    return found;
  }
}

/** Interfaces of the node in a result as libcni keeps it: bridges by name, and the ends of the workers' cables. */
export function interfacesIn(text: string): CachedInterfaces {
  const document = parseJson(text);
  const names = isObject(document) && isObject(document.result) ? nodeInterfacesOf(document.result) : [];
  return {
    bridges: names.filter((name) => !name.startsWith('veth')),
    ports: names.filter((name) => name.startsWith('veth')),
  };
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
