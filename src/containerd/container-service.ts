import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';
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
  readonly createdAt: Date;
}

export interface NewContainer extends Omit<ContainerRecord, 'createdAt'> {
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

interface Answer {
  readonly container: Omit<ContainerRecord, 'createdAt'> & { readonly createdAt: Timestamp | null };
}

export function createContainerService(channel: ContainerdChannel) {
  return {
    async get(id: string, options?: CallOptions): Promise<ContainerRecord> {
      return recordOf(await channel.unary<Answer>(SERVICE, 'Get', { id }, options));
    },
    async list(options?: CallOptions): Promise<readonly ContainerRecord[]> {
      // Not `List`: a thousand containers with their specifications exceed one message.
      const all: ContainerRecord[] = [];
      for await (const answer of channel.serverStream<Answer>(SERVICE, 'ListStream', {}, options)) {
        all.push(recordOf(answer));
      }
      return all;
    },
    async create(container: NewContainer, options?: CallOptions): Promise<ContainerRecord> {
      const { runtime: name, runcRoot: root = '', systemdCgroup = false, spec, ...fields } = container;
      const isDefault = root === '' && !systemdCgroup;
      const runtime = {
        name,
        ...(isDefault ? {} : { options: channel.proto.pack(RUNC_OPTIONS_TYPE, { root, systemdCgroup }) }),
      };
      const packed: AnyValue = { type_url: SPEC_TYPE, value: Buffer.from(JSON.stringify(spec)) };
      const request = { container: { ...fields, spec: packed, runtime } };
      return recordOf(await channel.unary<Answer>(SERVICE, 'Create', request, options));
    },
    /** Sets single labels and leaves the others. */
    async setLabels(id: string, labels: Readonly<Record<string, string>>, options?: CallOptions): Promise<void> {
      const paths = Object.keys(labels).map((key) => `labels.${key}`);
      await channel.unary(SERVICE, 'Update', { container: { id, labels }, updateMask: { paths } }, options);
    },
    /** Succeeds under a live task, which then cannot be deleted: delete the task first, always. */
    async delete(id: string, options?: CallOptions): Promise<void> {
      await channel.unary(SERVICE, 'Delete', { id }, options);
    },
  };
}

function recordOf({ container: { id, labels, image, createdAt } }: Answer): ContainerRecord {
  return { id, labels, image, createdAt: dateOf(createdAt) ?? new Date(0) };
}
