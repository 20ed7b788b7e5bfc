import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel, LeasedCallOptions } from './containerd-channel.ts';
import { type AnyValue, dateOf, type Timestamp } from './containerd-proto.ts';

const SERVICE = 'containerd.services.containers.v1.Containers';
/** Type of a runtime specification in containerd's own client, kept as JSON. */
const SPEC_TYPE = 'types.containerd.io/opencontainers/runtime-spec/1/Spec';
const RUNC_OPTIONS_TYPE = 'containerd.runc.v1.Options';

/** A container's record; its process is the task of the same name. */
export interface ContainerRecord {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly image: string;
  readonly snapshotKey: string;
  readonly createdAt: Date;
}

export interface NewContainer {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly image: string;
  readonly snapshotter: string;
  readonly snapshotKey: string;
  /** Name of the shim, such as `io.containerd.runc.v2`. */
  readonly runtime: string;
  /** Folder of runc's states. Default: one that all daemons of a machine share. */
  readonly runcRoot?: string | undefined;
  /** Whether systemd makes the cgroup. Default false: runc itself. */
  readonly systemdCgroup?: boolean | undefined;
  /** OCI runtime specification. */
  readonly spec: unknown;
}

export interface ContainerService {
  get(id: string, options?: CallOptions): Promise<ContainerRecord>;
  list(options?: CallOptions): Promise<readonly ContainerRecord[]>;
  create(container: NewContainer, options?: LeasedCallOptions): Promise<ContainerRecord>;
  /** Sets single labels and leaves the others. */
  setLabels(id: string, labels: Readonly<Record<string, string>>, options?: CallOptions): Promise<void>;
  /** Succeeds under a live task, which then cannot be deleted: delete the task first, always. */
  delete(id: string, options?: CallOptions): Promise<void>;
}

interface WireContainer {
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly image: string;
  readonly snapshotKey: string;
  readonly createdAt: Timestamp | null;
}

export function createContainerService(channel: ContainerdChannel): ContainerService {
  return {
    async get(id, options) {
      const answer = await channel.unary<{ container: WireContainer }>(SERVICE, 'Get', { id }, options);
      return recordOf(answer.container);
    },
    async list(options) {
      // Not `List`: a thousand containers with their specifications exceed one message.
      const all: ContainerRecord[] = [];
      const parts = channel.serverStream<{ container: WireContainer }>(SERVICE, 'ListStream', {}, options);
      for await (const { container } of parts) {
        all.push(recordOf(container));
      }
      return all;
    },
    async create(container, options) {
      const spec: AnyValue = { type_url: SPEC_TYPE, value: Buffer.from(JSON.stringify(container.spec)) };
      const { id, labels, image, snapshotter, snapshotKey } = container;
      const answer = await channel.unary<{ container: WireContainer }>(
        SERVICE,
        'Create',
        {
          container: {
            id,
            labels,
            image,
            snapshotter,
            snapshotKey,
            spec,
            runtime: {
              name: container.runtime,
              ...(container.runcRoot === undefined && container.systemdCgroup !== true
                ? {}
                : {
                    options: channel.proto.pack(RUNC_OPTIONS_TYPE, {
                      root: container.runcRoot ?? '',
                      systemdCgroup: container.systemdCgroup === true,
                    }),
                  }),
            },
          },
        },
        options,
      );
      return recordOf(answer.container);
    },
    async setLabels(id, labels, options) {
      const paths = Object.keys(labels).map((key) => `labels.${key}`);
      await channel.unary(SERVICE, 'Update', { container: { id, labels }, updateMask: { paths } }, options);
    },
    async delete(id, options) {
      await channel.unary(SERVICE, 'Delete', { id }, options);
    },
  };
}

function recordOf(container: WireContainer): ContainerRecord {
  const { id, labels, image, snapshotKey } = container;
  return { id, labels, image, snapshotKey, createdAt: dateOf(container.createdAt) ?? new Date(0) };
}
