import type { CallOptions } from '../common/deadline.ts';
import type { ContainerdChannel } from './containerd-channel.ts';
import type { AnyValue } from './containerd-proto.ts';

const SERVICE = 'containerd.services.events.v1.Events';

/** An event of a task, or a published one. */
export interface ContainerdEvent {
  /** Such as `/tasks/exit`. */
  readonly topic: string;
  /** Empty for topics other than tasks. */
  readonly containerId: string;
  /** Differs from the container's id for a process that was executed into the container. */
  readonly processId?: string;
  /** Published bytes, for topics other than tasks. */
  readonly payload: Buffer;
}

export type EventService = ReturnType<typeof createEventService>;

export function createEventService(channel: ContainerdChannel) {
  return {
    /** Events from now on, by the filters; ends only with the signal or the connection. */
    async *subscribe(filters: readonly string[], options?: CallOptions): AsyncIterable<ContainerdEvent> {
      const call = { deadlineMs: Number.POSITIVE_INFINITY, ...options };
      type Envelope = { topic: string; event: AnyValue | null };
      for await (const { topic, event } of channel.serverStream<Envelope>(SERVICE, 'Subscribe', { filters }, call)) {
        yield eventOf(channel, topic, event);
      }
    },
    async publish(topic: string, payload: Buffer, options?: CallOptions): Promise<void> {
      const event: AnyValue = { type_url: 'google.protobuf.BytesValue', value: payload };
      await channel.unary(SERVICE, 'Publish', { topic, event }, options);
    },
  };
}

function eventOf(channel: ContainerdChannel, topic: string, event: AnyValue | null): ContainerdEvent {
  const payload = event?.value ?? Buffer.alloc(0);
  if (event === null || !topic.startsWith('/tasks/')) {
    return { topic, containerId: '', payload };
  }
  if (topic === '/tasks/exit') {
    const exit = channel.proto.unpack<{ containerId: string; id: string }>('containerd.events.TaskExit', event);
    return { topic, containerId: exit.containerId, processId: exit.id, payload };
  }
  const { containerId } = channel.proto.unpack<{ containerId: string }>('containerd.events.TaskEvent', event);
  return { topic, containerId, payload };
}
