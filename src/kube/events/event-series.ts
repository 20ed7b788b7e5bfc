import { randomUUID } from 'node:crypto';
import { microTime } from '../api/micro-time.ts';
import { apiVersionOf } from '../api/resource-path.ts';
import type { Event, ObjectReference } from '../api/resource-types.ts';
import type { KubeObject, ObjectKey, ResourceType } from '../api/types.ts';

/** An Event that a user finds under `kubectl describe`. */
export interface RecordedEvent<Reason extends string = string> {
  readonly regarding: ObjectReference;
  readonly type: 'Normal' | 'Warning';
  /** CamelCase, for machines. */
  readonly reason: Reason;
  /** CamelCase: the action that the reporter took. */
  readonly action: string;
  /** For people; cut after 1,024 bytes. */
  readonly note: string;
  readonly related?: ObjectReference;
}

/** Writer of an Event. */
export interface EventReporter {
  /** `reportingController`, such as `esb.dev/controller`. */
  readonly controller: string;
  /** `reportingInstance`, such as the name of the Pod. */
  readonly instance: string;
}

/** Equal events, and the part of them that the server has. */
export class Series {
  readonly event: RecordedEvent;
  /** Monotonic milliseconds. */
  lastAt: number;
  /** Wall-clock milliseconds. */
  lastWall: number;
  count = 1;
  name: string | undefined;
  /** Undefined until the first write has succeeded. */
  stored: ObjectKey | undefined;
  writtenCount = 0;
  writtenAt = Number.NEGATIVE_INFINITY;
  queued = false;
  /** Timer for the next write, which is not due yet. */
  timer: { cancel(): void } | undefined;

  constructor(event: RecordedEvent, lastAt: number, lastWall: number) {
    this.event = event;
    this.lastAt = lastAt;
    this.lastWall = lastWall;
  }

  /** Whether no write is due. */
  get isWritten(): boolean {
    return !this.queued && this.timer === undefined;
  }
}

const NOTE_BYTES = 1024;

/** Reference to an object of ours; kind and version from the type, since listed objects may lack them. */
export function referenceTo<T extends KubeObject>(type: ResourceType<T>, object: T): ObjectReference {
  const { namespace, name, uid, resourceVersion } = object.metadata;
  return { apiVersion: apiVersionOf(type), kind: type.kind, name, namespace, uid, resourceVersion };
}

/** Equal for events of one series. */
export function seriesKey({ regarding, type, reason, action, note, related }: RecordedEvent): string {
  return JSON.stringify([regarding.uid ?? regarding.name, type, reason, action, note, related?.uid, related?.name]);
}

/** The object that an event counts against in the spam filter. */
export function subjectOf({ regarding }: RecordedEvent): string {
  return regarding.uid ?? `${regarding.namespace ?? ''}/${regarding.name ?? ''}`;
}

/** The note within the bound of the API server. */
export function cutNote(note: string): string {
  const bytes = Buffer.from(note);
  // A character that was cut in two decodes to U+FFFD, which takes three bytes itself.
  return bytes.length <= NOTE_BYTES ? note : `${bytes.subarray(0, NOTE_BYTES - 6).toString()}…`;
}

/** A new name for the Event of a series. */
export function eventName({ regarding }: RecordedEvent): string {
  const suffix = randomUUID().replaceAll('-', '').slice(0, 16);
  return `${(regarding.name ?? 'unknown').slice(0, 200)}.${suffix}`;
}

/** The Event of a series as the server is to have it. */
export function eventBody(series: Series, key: ObjectKey, reporter: EventReporter): Event {
  const { event, count, lastWall } = series;
  const time = microTime(lastWall);
  return {
    metadata: key,
    eventTime: time,
    ...(count > 1 ? { series: { count, lastObservedTime: time } } : {}),
    reportingController: reporter.controller,
    reportingInstance: reporter.instance.slice(0, 128),
    action: event.action,
    reason: event.reason,
    regarding: event.regarding,
    related: event.related,
    note: event.note,
    type: event.type,
  };
}
