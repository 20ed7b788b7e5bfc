// Processes around the guest, with a network and mounts of their own: node outside.ts KERNEL FILE...
// The local instance has its etcd, API server, registry and controller here; its node and gateway move into the guest.
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { runDown } from '../../local/commands/down.ts';
import { runUp } from '../../local/commands/up.ts';
import { openHome } from '../../local/common/home.ts';
import { repositoryRoot } from '../../local/common/repository.ts';
import { requireInstance } from '../../local/instance/instance.ts';
import { anyFreePort } from '../../local/instance/instance-state.ts';
import type { PartSpec } from '../../local/supervisor/part.ts';
import { serveCommands } from '../support/command-service.ts';
import { interruption } from '../support/held-apart.ts';
import { relaySockets } from '../support/socket-relay.ts';
import { waitFor } from '../support/wait-for.ts';
import { guestPatience } from './guest.ts';
import { runGuest } from './virtual-machine.ts';

/** Where the guest has them in place of this machine. */
const movedParts: readonly string[] = ['gateway-1', 'agent-node-1', 'containerd-node-1'];

/** The guest compiles slowly: what was compiled here spares it most of that. */
function compiledFolder(): string {
  return join(openHome().root, 'compiled');
}

const write = (text: string): void => void process.stdout.write(text);

async function startInstance(signal: AbortSignal): Promise<void> {
  const size = { nodes: 1, gateways: 1, controllers: 1 };
  await runUp({ ...size, audit: false, agentOption: [], sample: false }, { signal, write });
  const home = openHome();
  const { supervisor } = await requireInstance(home);
  // Node.js writes it down as it ends.
  const env = { NODE_COMPILE_CACHE: compiledFolder() };
  const parts = JSON.parse(await readFile(join(home.run, 'parts'), 'utf8')) as PartSpec[];
  const isMoved = ({ name }: PartSpec): boolean => movedParts.includes(name);
  await supervisor.apply(parts.map((part) => (isMoved(part) ? { ...part, env: { ...part.env, ...env } } : part)));
  await waitFor('the parts to be healthy again', async () =>
    (await supervisor.status()).parts.every(({ health }) => health === 'healthy'),
  );
  for (const part of movedParts) {
    await supervisor.stopPart(part);
  }
}

async function main(modules: string, tests: readonly string[]): Promise<number> {
  const signal = interruption();
  const [kernelRelease = ''] = await readdir(join(modules, 'lib/modules'));
  const repository = repositoryRoot();
  const folder = await mkdtemp(join(tmpdir(), 'esb-cgroup2-'));
  // The guest has a /tmp and a /run of its own.
  await mkdir('/var/tmp', { recursive: true });
  const instance = await mkdtemp('/var/tmp/esb-cgroup2-');
  process.env.ESB_HOME = instance;
  try {
    await startInstance(signal);
    // Of the commands that tests in the guest have run here.
    process.env.ESB_TEST_PATIENCE = String(guestPatience);
    const commands = await serveCommands();
    const containerdPort = await anyFreePort();
    await relaySockets(`unix:${openHome().node('node-1').containerdSocket}`, `tcp:127.0.0.1:${containerdPort}`);
    const began = performance.now();
    const layout = {
      kernelRelease,
      modules,
      repository,
      path: [
        join(repository, 'node_modules/.bin'),
        ...(process.env.PATH ?? '').split(delimiter),
        '/usr/sbin',
        '/usr/bin',
      ],
      home: homedir(),
      kept: ['esb-test-worker'],
      instance,
      compiled: compiledFolder(),
      containerdPort,
      commandsPort: (commands.address() as AddressInfo).port,
      tests,
    };
    const outcome = await runGuest(folder, layout, signal);
    const seconds = Math.round((performance.now() - began) / 1000);
    if (outcome === undefined) {
      console.log(`the virtual machine ended after ${seconds} s without a result`);
      return 1;
    }
    const { passed, failed, total } = outcome;
    console.log(`control groups version 2: ${passed} of ${total} passed, ${failed} failed, ${seconds} s`);
    return passed > 0 && passed === total ? 0 : 1;
  } catch (error) {
    if (!signal.aborted) {
      throw error;
    }
    return 130;
  } finally {
    await runDown({}, { signal: new AbortController().signal, write });
    await rm(instance, { recursive: true, force: true });
    await rm(folder, { recursive: true, force: true });
  }
}

const [, , modules = '', ...tests] = process.argv;
process.exit(await main(modules, tests));
