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

export interface EventService {
  /** Events from now on, by the filters; ends only with the signal or the connection. */
  subscribe(filters: readonly string[], options?: CallOptions): AsyncIterable<ContainerdEvent>;
  publish(topic: string, payload: Buffer, options?: CallOptions): Promise<void>;
}

export function createEventService(channel: ContainerdChannel): EventService {
  return {
    async *subscribe(filters, options) {
      const request = { deadlineMs: Number.POSITIVE_INFINITY, ...options };
      const envelopes = channel.serverStream<{ topic: string; event: AnyValue | null }>(
        SERVICE,
        'Subscribe',
        { filters },
        request,
      );
      for await (const { topic, event } of envelopes) {
        yield eventOf(channel, topic, event);
      }
    },
    async publish(topic, payload, options) {
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
    const exit = channel.proto.unpack('containerd.events.TaskExit', event) as {
      containerId: string;
      id: string;
    };
    return { topic, containerId: exit.containerId, processId: exit.id, payload };
  }
  const task = channel.proto.unpack('containerd.events.TaskEvent', event) as { containerId: string };
  return { topic, containerId: task.containerId, payload };
}
