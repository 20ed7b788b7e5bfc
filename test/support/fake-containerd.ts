import type { ContainerRecord } from '../../src/containerd/container-service.ts';
import type { ContainerdClient } from '../../src/containerd/containerd-client.ts';
import { ContainerdError } from '../../src/containerd/containerd-error.ts';
import type { ContainerdEvent } from '../../src/containerd/event-service.ts';
import type { TaskProcess, TaskStatus } from '../../src/containerd/task-service.ts';

/**
 * containerd as far as the runtime's decisions need it: containers, tasks, snapshots and leases in memory.
 */
export interface FakeContainerd {
  readonly client: ContainerdClient;
  readonly containers: Map<string, ContainerRecord>;
  readonly tasks: Map<string, TaskProcess>;
  readonly snapshots: Set<string>;
  readonly leases: Set<string>;
  /** Calls that change something, `service.method id`, in order. */
  readonly calls: string[];
  /** Errors for the next calls of a method, `service.method`; `after` lets the call take effect first. */
  fail(method: string, error: Error, when?: 'before' | 'after'): void;
  setStatus(id: string, status: TaskStatus, exitCode?: number): void;
  emit(event: ContainerdEvent): void;
  /** Ends every subscription. */
  breakSubscriptions(): void;
  /** Awaited before a task is frozen or thawed, where a test has the kernel's freezer too. */
  hold: (() => Promise<void>) | undefined;
  /** Containers whose shims hang. */
  readonly hung: Set<string>;
  /** Whether no task can be asked for. */
  deaf: boolean;
  /** While false, published events come back to no subscriber. */
  echoes: boolean;
  version: string;
}

export function notFound(what = 'it'): ContainerdError {
  return new ContainerdError(`${what}: not found`, 'NotFound');
}

export function unavailable(): ContainerdError {
  return new ContainerdError('no connection', 'RuntimeUnavailable');
}

export function refused(text = 'wrong state'): ContainerdError {
  return new ContainerdError(text, 'ContainerdFailed');
}

interface Subscription {
  push(event: ContainerdEvent): void;
  end(): void;
}

export function fakeContainerd(): FakeContainerd {
  const containers = new Map<string, ContainerRecord>();
  const tasks = new Map<string, TaskProcess>();
  const snapshots = new Set<string>();
  const leases = new Set<string>();
  const calls: string[] = [];
  const failures = new Map<string, { error: Error; when: 'before' | 'after' }[]>();
  const exits = new Map<string, PromiseWithResolvers<void>>();
  const subscriptions = new Set<Subscription>();

  async function act<T>(method: string, id: string, effect: () => T): Promise<T> {
    calls.push(`${method} ${id}`);
    const failure = failures.get(method)?.shift();
    if (failure?.when === 'before') {
      throw failure.error;
    }
    await Promise.resolve();
    const result = effect();
    if (failure !== undefined) {
      throw failure.error;
    }
    return result;
  }

  function task(id: string): TaskProcess {
    const found = tasks.get(id);
    // As containerd: a task is found by way of its container's record.
    if (found === undefined || !containers.has(id)) {
      throw notFound(`task ${id}`);
    }
    return found;
  }

  function setStatus(id: string, status: TaskStatus, exitCode = 0): void {
    tasks.set(id, { containerId: id, pid: 42, status, exitCode });
    if (status === 'STOPPED') {
      exits.get(id)?.resolve();
    }
  }

  const missing = (): Promise<never> => Promise.reject(notFound());
  const client: ContainerdClient = {
    version: { get: () => act('version.get', '', () => ({ version: fake.version })) },
    introspection: {
      plugins: () =>
        Promise.resolve([
          { type: 'io.containerd.snapshotter.v1', id: 'overlayfs', exports: {}, capabilities: ['remap-ids'] },
        ]),
    },
    leases: {
      create: (id) => act('leases.create', id, () => void leases.add(id)),
      delete: (id) =>
        act('leases.delete', id, () => {
          if (!leases.delete(id)) {
            throw notFound(id);
          }
        }),
      list: () => Promise.resolve([...leases].map((id) => ({ id }))),
    },
    namespaces: {
      ensure: (name) => act('namespaces.ensure', name, () => undefined),
      delete: (name) => act('namespaces.delete', name, () => undefined),
    },
    images: { get: missing, list: () => Promise.resolve([]), delete: () => Promise.resolve() },
    content: { read: missing },
    snapshots: {
      prepare: (key) =>
        act('snapshots.prepare', key, () => {
          snapshots.add(key);
          return [];
        }),
      view: missing,
      mounts: missing,
      remove: (key) =>
        act('snapshots.remove', key, () => {
          if (!snapshots.delete(key)) {
            throw notFound(key);
          }
        }),
      stat: missing,
      list: () => Promise.resolve([]),
    },
    containers: {
      async get(id) {
        const found = containers.get(id);
        if (found === undefined) {
          throw notFound(id);
        }
        return await Promise.resolve(found);
      },
      list: () => Promise.resolve([...containers.values()]),
      create: ({ id, labels, image }) =>
        act('containers.create', id, () => {
          const record = { id, labels, image, createdAt: new Date(0) };
          containers.set(id, record);
          return record;
        }),
      setLabels: (id) => act('containers.setLabels', id, () => undefined),
      delete: (id) =>
        act('containers.delete', id, () => {
          if (!containers.delete(id)) {
            throw notFound(id);
          }
        }),
    },
    tasks: {
      create: ({ containerId }) =>
        act('tasks.create', containerId, () => {
          setStatus(containerId, 'CREATED');
          return { pid: 42 };
        }),
      start: (id) => act('tasks.start', id, () => setStatus(id, 'RUNNING')),
      async get(id) {
        if (fake.deaf || fake.hung.has(id)) {
          throw new ContainerdError('too late', 'DeadlineExceeded');
        }
        return await Promise.resolve(task(id));
      },
      list: () => Promise.resolve([...tasks.values()]),
      kill: (id, signal) => act(`tasks.kill-${signal}`, id, () => setStatus(task(id).containerId, 'STOPPED', 137)),
      pause: (id) =>
        act('tasks.pause', id, () => {
          if (task(id).status !== 'RUNNING') {
            throw refused();
          }
          setStatus(id, 'PAUSED');
        }),
      resume: (id) =>
        act('tasks.resume', id, () => {
          if (task(id).status !== 'PAUSED') {
            throw refused();
          }
          setStatus(id, 'RUNNING');
        }),
      async wait(id, options) {
        if (task(id).status !== 'STOPPED') {
          const exit = exits.get(id) ?? Promise.withResolvers<void>();
          exits.set(id, exit);
          const ended = Promise.withResolvers<never>();
          const end = (): void => ended.reject(new ContainerdError('no exit', 'DeadlineExceeded'));
          const timer = options?.deadlineMs === undefined ? undefined : setTimeout(end, options.deadlineMs);
          options?.signal?.addEventListener('abort', end, { once: true });
          try {
            await Promise.race([exit.promise, ended.promise]);
          } finally {
            clearTimeout(timer);
          }
        }
        return { exitCode: tasks.get(id)?.exitCode ?? 0 };
      },
      delete: (id) =>
        act('tasks.delete', id, () => {
          task(id);
          tasks.delete(id);
        }),
    },
    events: {
      async *subscribe(_filters, options) {
        const queue: ContainerdEvent[] = [];
        let wake = Promise.withResolvers<void>();
        let ended = false;
        const subscription: Subscription = {
          push(event) {
            queue.push(event);
            wake.resolve();
          },
          end() {
            ended = true;
            wake.resolve();
          },
        };
        subscriptions.add(subscription);
        options?.signal?.addEventListener('abort', () => subscription.end(), { once: true });
        try {
          while (!ended) {
            const event = queue.shift();
            if (event === undefined) {
              await wake.promise;
              wake = Promise.withResolvers<void>();
            } else {
              yield event;
            }
          }
        } finally {
          subscriptions.delete(subscription);
        }
        throw unavailable();
      },
      publish: (topic, payload) => {
        if (fake.echoes) {
          fake.emit({ topic, containerId: '', payload });
        }
        return Promise.resolve();
      },
    },
    transfer: { pull: missing, describe: missing },
    close: () => undefined,
  };
  const fake: FakeContainerd = {
    client,
    containers,
    tasks,
    snapshots,
    leases,
    calls,
    fail(method, error, when = 'before') {
      failures.set(method, [...(failures.get(method) ?? []), { error, when }]);
    },
    setStatus,
    emit(event) {
      for (const subscription of subscriptions) {
        subscription.push(event);
      }
    },
    breakSubscriptions() {
      for (const subscription of subscriptions) {
        subscription.end();
      }
    },
    hold: undefined,
    hung: new Set(),
    deaf: false,
    echoes: true,
    version: '2.4.2',
  };
  return fake;
}

/** A container of ours with its task, as the fake has them. */
export function addWorker(fake: FakeContainerd, id: string, status: TaskStatus = 'RUNNING'): void {
  fake.containers.set(id, {
    id,
    labels: { 'esb.dev/uid': `uid-of-${id}` },
    image: '',
    createdAt: new Date(0),
  });
  fake.snapshots.add(id);
  fake.setStatus(id, status);
}
