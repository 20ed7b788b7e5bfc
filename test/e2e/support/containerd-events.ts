import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { onTestFinished } from 'vitest';
import { waitFor } from '../../support/wait-for.ts';
import type { Instance } from './instance.ts';

/** What containerd itself says that happened, from the moment of subscription on. */
export class ContainerdEvents {
  readonly #lines: string[] = [];

  /** How often `topic`, such as `/tasks/resumed`, was told of this container. */
  count(topic: string, containerId: string): number {
    return this.#lines.filter((line) => line.includes(` ${topic} `) && line.includes(`"${containerId}"`))
      .length;
  }

  /** Subscribes with `ctr events`; ends with the test. */
  static async of(esb: Instance, node = 'node-1'): Promise<ContainerdEvents> {
    const events = new ContainerdEvents();
    const socket = join(esb.home, 'nodes', node, 'containerd.sock');
    const child = spawn(esb.program('ctr'), ['--address', socket, '--namespace', 'esb', 'events'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    createInterface({ input: child.stdout }).on('line', (line) => events.#lines.push(line));
    // The subscription has begun once an event of our own making comes back.
    let attempt = 0;
    await waitFor('the subscription to containerd', async () => {
      attempt += 1;
      const label = `esb.dev/e2e-${attempt}`;
      await esb.ctr(['namespaces', 'label', 'esb', `${label}=seen`], node);
      await esb.ctr(['namespaces', 'label', 'esb', `${label}=`], node);
      return events.#lines.some((line) => line.includes('/namespaces/'));
    });
    return events;
  }
}
