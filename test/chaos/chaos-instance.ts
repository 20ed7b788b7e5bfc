import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Home, homeAt } from '../../local/common/home.ts';
import { repositoryRoot } from '../../local/common/repository.ts';
import { readInstanceState } from '../../local/instance/instance-state.ts';
import type { PartSpec } from '../../local/supervisor/part.ts';
import { createSupervisorClient } from '../../local/supervisor/supervisor-client.ts';
import type { KubeClient } from '../../src/kube/api/types.ts';
import { createKubeClient } from '../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../src/kube/client/kube-config.ts';
import { run } from '../support/command.ts';
import { untilAborted } from '../support/held-apart.ts';
import { testImage } from '../support/test-image.ts';
import { waitFor } from '../support/wait-for.ts';

/** Where Debian's libfaketime has its library: it adds to the wall clock what a file says. */
export const clockLibrary = '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1';
/** Parts that have a clock of their own in this instance. */
const clocked: ReadonlySet<string> = new Set(['agent-node-2', 'gateway-2', 'controller-2']);
/** MiB of the file system that an agent keeps its state in. */
const DISK_MIB = 64;
/** Seconds between two audits of an agent. */
const AUDIT_SECONDS = 15;

export const nodes = ['node-1', 'node-2'] as const;

/**
 * A local instance that a walk has for itself: two of everything, small disks, and clocks that can be set.
 */
export interface ChaosInstance {
  readonly home: Home;
  readonly gateways: readonly string[];
  readonly image: string;
  readonly clockFile: string;
  readonly client: KubeClient;
  /** Process of each part by its name; 0 where it does not run. */
  parts(): Promise<ReadonlyMap<string, number>>;
  /** Waits until every part is healthy. */
  untilHealthy(timeoutMs: number): Promise<void>;
  down(): Promise<void>;
}

const esb = (home: string, args: readonly string[]): Promise<unknown> =>
  run(process.execPath, [join(repositoryRoot(), 'local/main.ts'), ...args], {
    env: { ESB_HOME: home },
    timeoutMs: 300_000,
  });

/**
 * Brings the instance up in `root`. The caller takes it down; an instance that fails to come up takes itself down.
 *
 * @param signal no start goes on when it aborts
 */
export async function startChaosInstance(root: string, signal: AbortSignal): Promise<ChaosInstance> {
  try {
    return await Promise.race([bringUp(root), untilAborted(signal)]);
  } catch (error) {
    await takeDown(root).catch((left: unknown) => {
      throw new Error(`taken down after: ${String(error)}`, { cause: left });
    });
    throw error;
  }
}

const diskOf = (root: string, node: string): string => join(root, 'disks', node);

async function takeDown(root: string): Promise<void> {
  try {
    await esb(root, ['down']);
  } finally {
    for (const node of nodes) {
      await run('umount', [diskOf(root, node)], { mayFail: true });
    }
  }
}

async function bringUp(root: string): Promise<ChaosInstance> {
  const home = homeAt(root);
  // Beside the nodes: `down` unmounts what is in them before it reads what the agents have left.
  for (const node of nodes) {
    const disk = diskOf(root, node);
    await mkdir(disk, { recursive: true });
    await run('mount', ['-t', 'tmpfs', '-o', `size=${DISK_MIB}m`, 'tmpfs', disk]);
    await mkdir(home.node(node).root, { recursive: true });
    await symlink(disk, home.node(node).agent);
  }
  await esb(root, ['up', '--nodes', '2', '--gateways', '2', '--controllers', '2', '--no-sample']);
  const state = await readInstanceState(home.stateFile);
  const port = (name: string): number => state?.ports[name] ?? 0;
  const supervisor = createSupervisorClient(home.supervisorSocket);
  const clockFile = join(home.root, 'clock');
  await writeFile(clockFile, '+0');
  const specs = JSON.parse(await readFile(join(home.run, 'parts'), 'utf8')) as PartSpec[];
  await supervisor.apply(specs.map((spec) => withAudits(clocked.has(spec.name) ? withClock(spec, clockFile) : spec)));
  const client = createKubeClient({
    source: createKubeConnectionSource({ kubeconfig: home.kubeconfig }),
    userAgent: 'esb-chaos',
  });
  const instance: ChaosInstance = {
    home,
    gateways: [1, 2].map((number) => `http://127.0.0.1:${port(`gateway-${number}`)}`),
    image: await pushTestImage(`127.0.0.1:${port('registry')}`),
    clockFile,
    client,
    async parts() {
      const { parts } = await supervisor.status();
      return new Map(parts.map(({ name, pid }) => [name, pid]));
    },
    untilHealthy: (timeoutMs) =>
      waitFor(
        'every part to be healthy',
        async () => {
          const { parts } = await supervisor.status();
          const ill = parts.filter(({ health }) => health !== 'healthy');
          if (ill.length > 0) {
            throw new Error(ill.map(({ name, health }) => `${name}: ${health}`).join('; '));
          }
          return true;
        },
        { timeoutMs, everyMs: 500 },
      ).then(() => undefined),
    async down() {
      await client.close();
      await takeDown(root);
    },
  };
  await instance.untilHealthy(60_000);
  return instance;
}

function withClock(spec: PartSpec, file: string): PartSpec {
  return {
    ...spec,
    env: {
      ...spec.env,
      LD_PRELOAD: clockLibrary,
      FAKETIME_TIMESTAMP_FILE: file,
      FAKETIME_CACHE_DURATION: '1',
      DONT_FAKE_MONOTONIC: '1',
    },
  };
}

/** The part with audits so often that the second one finds the leftovers of a creation that died with its agent. */
function withAudits(spec: PartSpec): PartSpec {
  const options = ['--audit-period', String(AUDIT_SECONDS)];
  return spec.name.startsWith('agent-') ? { ...spec, args: [...spec.args, ...options] } : spec;
}

/** Puts the test worker into the registry of the instance. */
async function pushTestImage(registry: string): Promise<string> {
  const image = await testImage();
  const base = `http://${registry}/v2/chaos/worker`;
  const accepted = async (answer: Response): Promise<Response> => {
    if (!answer.ok) {
      throw new Error(`the registry answered ${answer.status}: ${await answer.text()}`);
    }
    return answer;
  };
  for (const blob of image.blobs) {
    const begun = await accepted(await fetch(`${base}/blobs/uploads/`, { method: 'POST' }));
    const place = new URL(begun.headers.get('location') ?? '', base);
    place.searchParams.set('digest', blob.digest);
    await accepted(await fetch(place, { method: 'PUT', body: new Uint8Array(blob.content) }));
  }
  await accepted(
    await fetch(`${base}/manifests/1`, {
      method: 'PUT',
      headers: { 'content-type': image.manifest.mediaType },
      body: new Uint8Array(image.manifest.content),
    }),
  );
  return `${registry}/chaos/worker:1`;
}
