import { randomBytes } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { Agent } from 'node:http';
import { join } from 'node:path';
import {
  type Client,
  credentials,
  loadPackageDefinition,
  Metadata,
  type ServiceClientConstructor,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { Mount } from '../../src/containerd/snapshot-service.ts';
import type { TmpFile } from '../../src/runtime/tmp/tmp-files.ts';
import { withTmp } from '../../src/runtime/tmp/tmp-mount.ts';
import { run } from '../support/command.ts';
import { type FreezerFile, freezerFile, stateOfTask } from '../support/freezer.ts';
import type { BenchInstance } from './bench-instance.ts';
import { startProgram } from './program.ts';
import { timedRequest } from './timed-call.ts';
import { makeCertificates, startFrontHop } from './two-hop-proxy.ts';

const protos = join(import.meta.dirname, '../../proto');
const namespace = 'esb-bench';
const bridge = 'esbbench0';
const subnet = { range: '10.239.0.0/16', gateway: '10.239.0.1' };

type Unary = (
  request: object,
  metadata: Metadata,
  options: object,
  callback: (error: Error | null, answer: Record<string, unknown>) => void,
) => void;

/** A container made without any code of ours: raw stub calls and the CNI plugins themselves. */
export interface BareContainer {
  readonly id: string;
  /** Where its function is called. */
  readonly url: string;
}

/**
 * The bare mechanism that ESB is compared with: containerd's own services through stubs of the protocol compiler,
 * `ip netns` and the bridge plugin run as programs, and a Runtime API of one page (`bare-runtime-api.ts`). The runtime
 * spec is the one that the agent wrote for a worker of the same image, with its own id, namespace and cgroup, so that
 * runc has the same work to do, but for the init: the runtime is the first process.
 */
export class BareContainerd {
  readonly #instance: BenchInstance;
  readonly #clients = new Map<string, Client>();
  readonly #folder: string;
  readonly #living = new Set<BareContainer>();
  /** Creations and removals. */
  readonly #underway = new Set<Promise<unknown>>();
  #isStopping = false;
  #donorId = '';
  #spec = '';
  #chainId = '';
  #image = '';
  #api: BareRuntimeApi | undefined;

  constructor(instance: BenchInstance) {
    this.#instance = instance;
    this.#folder = join(instance.home, 'bench');
  }

  /** Pulls the image into a namespace of the benchmark's own and takes the spec of the worker `donorId`. */
  async start(donorId: string, image: string): Promise<void> {
    this.#donorId = donorId;
    this.#image = image;
    await mkdir(join(this.#folder, 'ipam'), { recursive: true });
    await this.#ctr('images', 'pull', '--plain-http', image);
    const donor = (await this.#call('containers.Containers', 'Get', { id: donorId }, 'esb')).container as {
      spec: { value: Buffer };
    };
    this.#spec = donor.spec.value.toString();
    this.#chainId = await this.#topSnapshot();
    this.#api = await startBareRuntimeApi();
  }

  /** The bare Runtime API of all these containers. */
  get api(): BareRuntimeApi {
    if (this.#api === undefined) {
      throw new Error('the bare Runtime API was not started');
    }
    return this.#api;
  }

  /**
   * The sequence that a cold start is compared with, image present: until the runtime asks for its first call.
   *
   * @param makeTmp makes a file for `/tmp` meanwhile. Default: a tmpfs.
   */
  async create(makeTmp?: (id: string) => Promise<TmpFile>): Promise<BareContainer> {
    // A scenario that was interrupted goes on until its next step fails.
    if (this.#isStopping) {
      throw new Error('no container is created any more: the bare mechanism is being stopped');
    }
    return await this.#awaited(this.#create(makeTmp));
  }

  /** Removes a container, unless that was begun before. */
  async remove(container: BareContainer): Promise<void> {
    if (this.#living.delete(container)) {
      await this.#awaited(this.#remove(container));
    }
  }

  async pause(container: BareContainer): Promise<void> {
    await this.#call('tasks.Tasks', 'Pause', { containerId: container.id });
  }

  async resume(container: BareContainer): Promise<void> {
    await this.#call('tasks.Tasks', 'Resume', { containerId: container.id });
  }

  /** RUNNING, PAUSED, … of a worker of ours, as containerd and the kernel have it; undefined without a task. */
  async workerTask(containerId: string): Promise<string | undefined> {
    const found = (await this.#workerTasks()).find(({ id }) => id === containerId);
    return found === undefined ? undefined : await stateOfTask(found.status, found.pid);
  }

  /** The freezers of workers of ours. */
  async workerFreezers(containerIds: readonly string[]): Promise<readonly FreezerFile[]> {
    const tasks = new Map((await this.#workerTasks()).map(({ id, pid }) => [id, pid]));
    return await Promise.all(
      containerIds.map(async (id) => {
        const file = await freezerFile(tasks.get(id) ?? 0);
        if (file === undefined) {
          throw new Error(`${id} has no process`);
        }
        return file;
      }),
    );
  }

  async #workerTasks(): Promise<readonly { readonly id: string; readonly status: string; readonly pid: number }[]> {
    const { tasks = [] } = (await this.#call('tasks.Tasks', 'List', {}, 'esb')) as {
      tasks?: readonly {
        readonly id: string;
        readonly containerId: string;
        readonly status: string;
        readonly pid: number;
      }[];
    };
    return tasks.map(({ id, containerId, status, pid }) => ({
      id: containerId === '' ? id : containerId,
      status,
      pid,
    }));
  }

  async stop(): Promise<void> {
    this.#isStopping = true;
    await Promise.allSettled(this.#underway);
    for (const container of this.#living) {
      await this.remove(container);
    }
    // Removals that a scenario has begun meanwhile.
    await Promise.allSettled(this.#underway);
    for (const client of this.#clients.values()) {
      client.close();
    }
    await this.#api?.stop();
    await run('ip', ['link', 'del', bridge], { mayFail: true });
    // The image goes with the instance.
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #create(makeTmp?: (id: string) => Promise<TmpFile>): Promise<BareContainer> {
    const id = `bare-${randomBytes(4).toString('hex')}`;
    const file = makeTmp?.(id);
    const netns = `esb-bench-${id}`;
    const prepared = await this.#call('snapshots.Snapshots', 'Prepare', {
      snapshotter: 'overlayfs',
      key: id,
      parent: this.#chainId,
      labels: { 'containerd.io/gc.root': new Date().toISOString() },
    });
    await this.#call('containers.Containers', 'Create', {
      container: {
        id,
        image: this.#image,
        runtime: { name: 'io.containerd.runc.v2' },
        snapshotter: 'overlayfs',
        snapshotKey: id,
        spec: {
          type_url: 'types.containerd.io/opencontainers/runtime-spec/1/Spec',
          value: Buffer.from(this.#specOf(id, netns, file !== undefined)),
        },
      },
    });
    await run('ip', ['netns', 'add', netns]);
    const address = await this.#attach(id, netns);
    const log = `file://${join(this.#folder, `${id}.log`)}`;
    await this.#call('tasks.Tasks', 'Create', {
      containerId: id,
      rootfs: file === undefined ? prepared.mounts : await withTmp(prepared.mounts as readonly Mount[], await file),
      stdout: log,
      stderr: log,
    });
    await this.#call('tasks.Tasks', 'Start', { containerId: id });
    const container = { id, url: this.api.urlOf(address) };
    await this.api.untilWaiting(container.url);
    this.#living.add(container);
    return container;
  }

  async #remove({ id }: BareContainer): Promise<void> {
    await this.#call('tasks.Tasks', 'Kill', { containerId: id, signal: 9, all: true });
    await this.#call('tasks.Tasks', 'Wait', { containerId: id });
    await this.#call('tasks.Tasks', 'Delete', { containerId: id });
    await this.#call('containers.Containers', 'Delete', { id });
    await this.#call('snapshots.Snapshots', 'Remove', { snapshotter: 'overlayfs', key: id });
    const netns = `esb-bench-${id}`;
    await this.#plugin('DEL', id, netns);
    await run('ip', ['netns', 'del', netns]);
  }

  async #awaited<T>(work: Promise<T>): Promise<T> {
    this.#underway.add(work);
    try {
      return await work;
    } finally {
      this.#underway.delete(work);
    }
  }

  #specOf(id: string, netns: string, tmpOnDisk: boolean): string {
    const spec = JSON.parse(this.#spec.replaceAll(this.#donorId, id)) as {
      process: { args: string[]; env: string[] };
      mounts: { type?: string; source: string; destination: string; options?: readonly string[] }[];
      linux: { namespaces: { type: string; path?: string }[] };
    };
    spec.process.args = spec.process.args.slice(spec.process.args.indexOf('--') + 1);
    spec.process.env = spec.process.env.filter((each) => !each.startsWith('AWS_LAMBDA_RUNTIME_API='));
    spec.process.env.push(`AWS_LAMBDA_RUNTIME_API=${this.api.addressOn(subnet.gateway)}`);
    spec.mounts = spec.mounts.filter(
      ({ destination }) => destination !== '/tmp' && !destination.startsWith('/run/esb/'),
    );
    if (!tmpOnDisk) {
      const options = ['nosuid', 'nodev', 'mode=1777', 'size=64m'];
      spec.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs', options });
    }
    const donorsFile = new RegExp(`${id}(?=\\b)`);
    for (const mount of spec.mounts) {
      // Files that the agent made for the donor are shared, not copied.
      if (mount.source.startsWith('/') && donorsFile.test(mount.source)) {
        mount.source = mount.source.replaceAll(id, this.#donorId);
      }
    }
    for (const entry of spec.linux.namespaces) {
      if (entry.type === 'network') {
        entry.path = `/run/netns/${netns}`;
      }
    }
    return JSON.stringify(spec);
  }

  async #attach(id: string, netns: string): Promise<string> {
    await run('ip', ['-n', netns, 'link', 'set', 'lo', 'up']);
    const result = JSON.parse(await this.#plugin('ADD', id, netns)) as { ips: { address: string }[] };
    return result.ips[0]?.address.split('/')[0] ?? '';
  }

  async #plugin(command: 'ADD' | 'DEL', id: string, netns: string): Promise<string> {
    const { stdout } = await run(this.#instance.program('bridge'), [], {
      input: JSON.stringify({
        cniVersion: '1.0.0',
        name: 'esb-bench',
        type: 'bridge',
        bridge,
        isGateway: true,
        ipam: {
          type: 'host-local',
          dataDir: join(this.#folder, 'ipam'),
          ranges: [[{ subnet: subnet.range }]],
          routes: [{ dst: '0.0.0.0/0' }],
        },
      }),
      env: {
        CNI_COMMAND: command,
        CNI_CONTAINERID: id,
        CNI_NETNS: `/run/netns/${netns}`,
        CNI_IFNAME: 'eth0',
        CNI_PATH: join(this.#instance.home, 'bin'),
      },
    });
    return stdout;
  }

  async #topSnapshot(): Promise<string> {
    const listed = (await this.#ctr('snapshots', 'ls'))
      .split('\n')
      .slice(1)
      .map((line) => line.split(/\s+/));
    const parents = new Set(listed.map((row) => row[1]));
    const top = listed.map((row) => row[0] ?? '').find((key) => key.startsWith('sha256:') && !parents.has(key));
    if (top === undefined) {
      throw new Error(`no unpacked snapshot of ${this.#image}`);
    }
    return top;
  }

  async #ctr(...args: string[]): Promise<string> {
    const { stdout } = await run(this.#instance.program('ctr'), [
      '--address',
      this.#instance.containerdSocket,
      '--namespace',
      namespace,
      ...args,
    ]);
    return stdout;
  }

  #call(service: string, method: string, request: object, inNamespace = namespace): Promise<Record<string, unknown>> {
    const client = this.#client(service);
    const metadata = new Metadata();
    metadata.set('containerd-namespace', inNamespace);
    const done = Promise.withResolvers<Record<string, unknown>>();
    const unary = (client as unknown as Record<string, Unary>)[method];
    unary?.call(client, request, metadata, { deadline: Date.now() + 60_000 }, (error, answer) => {
      if (error === null) {
        done.resolve(answer);
      } else {
        done.reject(new Error(`${service}.${method}: ${error.message}`));
      }
    });
    return done.promise;
  }

  #client(service: string): Client {
    const known = this.#clients.get(service);
    if (known !== undefined) {
      return known;
    }
    const [family, name] = service.split('.') as [string, string];
    const definition = loadSync(`containerd/${family}.proto`, {
      includeDirs: [protos],
      enums: String,
      longs: Number,
      defaults: true,
    });
    const loaded = loadPackageDefinition(definition) as unknown as {
      containerd: { services: Record<string, { v1: Record<string, ServiceClientConstructor> }> };
    };
    const Constructor = loaded.containerd.services[family]?.v1[name];
    if (Constructor === undefined) {
      throw new Error(`no service ${service} in ${protos}`);
    }
    const client = new Constructor(`unix://${this.#instance.containerdSocket}`, credentials.createInsecure());
    this.#clients.set(service, client);
    return client;
  }
}

/** A Runtime API of one page, in a process of its own. */
export interface BareRuntimeApi {
  /** Where runtimes reach it by an address of this machine. */
  addressOn(host: string): string;
  /** Where the function of a runtime is called, by the address that the runtime comes from. */
  urlOf(address: string): string;
  /** Waits until a runtime asks for a call. */
  untilWaiting(url: string): Promise<void>;
  readonly pid: number;
  /** Starts another hop in front, by gRPC over mutual TLS: where that one takes the same calls, and its process. */
  startFrontHop(): Promise<FrontHop>;
  stop(): Promise<void>;
}

export interface FrontHop {
  readonly pid: number;
  /** The way to a function through both hops, by the way straight to the last. */
  urlOf(straight: string): string;
  stop(): void;
}

export async function startBareRuntimeApi(): Promise<BareRuntimeApi> {
  const certificates = await makeCertificates();
  const { line, pid, stop } = await startProgram('bare-runtime-api.ts', [certificates]);
  const [api, front, hop] = line.split(' ');
  const agent = new Agent({ keepAlive: true });
  return {
    pid,
    async startFrontHop() {
      const { url, ...program } = await startFrontHop(Number(hop), certificates);
      return { pid: program.pid, stop: program.stop, urlOf: (straight) => url + new URL(straight).pathname.slice(1) };
    },
    addressOn: (host) => `${host}:${api}`,
    urlOf: (address) => `http://127.0.0.1:${front}/${address}`,
    async untilWaiting(url) {
      await timedRequest(agent, url, 'GET', '');
    },
    async stop() {
      agent.destroy();
      stop();
      await rm(certificates, { recursive: true, force: true });
    },
  };
}
