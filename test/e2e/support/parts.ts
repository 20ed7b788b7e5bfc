import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { homeAt } from '../../../local/common/home.ts';
import { readInstanceState } from '../../../local/instance/instance-state.ts';
import type { PartSpec } from '../../../local/supervisor/part.ts';
import { createSupervisorClient, type SupervisorClient } from '../../../local/supervisor/supervisor-client.ts';
import { freePort } from '../../support/free-port.ts';
import { waitFor } from '../../support/wait-for.ts';
import type { Instance } from './instance.ts';
import type { BalancedGateway } from './load-balancer.ts';

/** A part that does not run for now; disposing of it lets it go on. */
export interface FrozenPart extends AsyncDisposable {
  continue(): Promise<void>;
}

/** The processes of the instance: what faults are made of. */
export class Parts {
  readonly #esb: Instance;
  readonly #supervisor: SupervisorClient;

  constructor(esb: Instance) {
    this.#esb = esb;
    this.#supervisor = createSupervisorClient(join(esb.home, 'supervisor.sock'));
  }

  /** Of the process that runs now; waits for one while there is none. */
  pidOf(name: string): Promise<number> {
    return waitFor(`${name} to run`, async () => {
      const pid = await this.#supervisor.pidOf(name);
      return pid > 0 ? pid : undefined;
    });
  }

  stop(name: string): Promise<void> {
    return this.#supervisor.stopPart(name);
  }

  /** SIGKILL, and not started again until {@link Parts.start}. */
  kill(name: string): Promise<void> {
    return this.#supervisor.stopPart(name, { with: 'SIGKILL' });
  }

  /** Starts it where it is stopped, and waits until it is healthy. */
  async start(name: string): Promise<void> {
    if ((await this.#supervisor.pidOf(name)) === 0) {
      await this.#supervisor.startPart(name);
    }
    await waitFor(
      `${name} to be healthy`,
      async () => {
        const { parts } = await this.#supervisor.status();
        return parts.find((part) => part.name === name)?.health === 'healthy';
      },
      { timeoutMs: 60_000 },
    );
  }

  /** Waits until the agent of node-1 takes connections. */
  async untilAgentListens(): Promise<void> {
    const { ports = {} } = (await readInstanceState(join(this.#esb.home, 'state.json'))) ?? {};
    await waitFor('the agent to listen', async () => {
      const socket = connect({ host: '127.0.0.1', port: ports['agent-node-1'] ?? 0 });
      try {
        await once(socket, 'connect');
        return true;
      } finally {
        socket.destroy();
      }
    });
  }

  /** SIGSTOP: its connections stay open and nothing is answered. */
  async freeze(name: string): Promise<FrozenPart> {
    const pid = await this.pidOf(name);
    process.kill(pid, 'SIGSTOP');
    let frozen = true;
    const goOn = async (): Promise<void> => {
      if (frozen) {
        frozen = false;
        process.kill(pid, 'SIGCONT');
      }
    };
    return { continue: goOn, [Symbol.asyncDispose]: goOn };
  }

  /** Gives a part more environment from its next start on. Returns what takes it back, with a restart. */
  async withEnvironment(name: string, env: Readonly<Record<string, string>>): Promise<() => Promise<void>> {
    const specs = JSON.parse(await readFile(join(homeAt(this.#esb.home).run, 'parts'), 'utf8')) as PartSpec[];
    await this.#supervisor.apply(
      specs.map((spec) => (spec.name === name ? { ...spec, env: { ...spec.env, ...env } } : spec)),
    );
    return async () => {
      await this.#supervisor.apply(specs);
      await this.start(name);
    };
  }

  /** Starts a gateway beside those that there are. */
  async furtherGateway(): Promise<{ readonly url: string; stop(): Promise<void> }> {
    const { run } = homeAt(this.#esb.home);
    const specs = JSON.parse(await readFile(join(run, 'parts'), 'utf8')) as PartSpec[];
    const first = specs.find(({ name }) => name === 'gateway-1');
    if (first?.health.kind !== 'http') {
      throw new Error('there is no gateway-1');
    }
    const [name, port, healthPort] = ['gateway-further', await freePort(), await freePort()];
    const values: Readonly<Record<string, string>> = {
      '--listen': `127.0.0.1:${port}`,
      '--health': `127.0.0.1:${healthPort}`,
      '--state-dir': join(run, name),
    };
    const health = new URL(first.health.url);
    health.port = String(healthPort);
    const further: PartSpec = {
      ...first,
      name,
      args: first.args.map((arg, index) => values[first.args[index - 1] ?? ''] ?? arg),
      logFile: first.logFile.replace('gateway-1', name),
      health: { ...first.health, url: String(health) },
    };
    await this.#supervisor.apply([...specs, further]);
    await this.start(name);
    return { url: `http://127.0.0.1:${port}`, stop: () => this.#supervisor.apply(specs) };
  }

  /** Where each gateway listens. */
  async gateways(): Promise<readonly string[]> {
    const state = await readInstanceState(join(this.#esb.home, 'state.json'));
    return Object.entries(state?.ports ?? {})
      .filter(([name]) => /^gateway-\d+$/.test(name))
      .map(([, port]) => `http://127.0.0.1:${port}`);
  }

  /** Where each gateway takes calls, and where it says whether it is ready. */
  async balanced(): Promise<readonly BalancedGateway[]> {
    const { ports = {} } = (await readInstanceState(join(this.#esb.home, 'state.json'))) ?? {};
    return Object.keys(ports)
      .filter((name) => /^gateway-\d+$/.test(name))
      .map((name) => ({
        url: `http://127.0.0.1:${ports[name]}`,
        ready: `http://127.0.0.1:${ports[`${name}-health`]}/readyz`,
      }));
  }

  /**
   * How often the agent of node-1 has woken a worker since it was started; containerd does not learn of that.
   */
  async resumes(): Promise<number> {
    const state = await readInstanceState(join(this.#esb.home, 'state.json'));
    const answer = await fetch(`http://127.0.0.1:${state?.ports['agent-node-1-health']}/metrics`);
    const page = await answer.text();
    const line = /^esb_agent_action_seconds_count\{.*action="Resume",result="ok".*\} (\d+)$/m.exec(page);
    return Number(line?.[1] ?? 0);
  }

  /** The controller that holds the Lease, by the name of its part. */
  async leader(): Promise<string> {
    const { stdout } = await this.#esb.kubectl([
      'get',
      'lease',
      'esb-controller',
      '--namespace=esb-system',
      '-o',
      'jsonpath={.spec.holderIdentity}',
    ]);
    const name = /controller-\d+/.exec(stdout)?.[0];
    if (name === undefined) {
      throw new Error(`no controller leads: '${stdout}'`);
    }
    return name;
  }
}
