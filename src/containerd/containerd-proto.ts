import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js';
import { loadSync, type MessageTypeDefinition, type PackageDefinition } from '@grpc/proto-loader';
import { EsbError } from '../common/errors.ts';

const protoFolder = fileURLToPath(new URL('../../proto', import.meta.url));

/** A `google.protobuf.Any` on the wire. */
export interface AnyValue {
  readonly type_url: string;
  readonly value: Buffer;
}

/** A `google.protobuf.Timestamp`. */
export interface Timestamp {
  readonly seconds: string;
  readonly nanos: number;
}

/** Methods and messages of containerd's API, read from `proto/containerd`. */
export class ContainerdProto {
  readonly #definitions: PackageDefinition;

  constructor() {
    const folder = join(protoFolder, 'containerd');
    const files = readdirSync(folder).filter((name) => name.endsWith('.proto'));
    this.#definitions = loadSync(
      files.map((name) => `containerd/${name}`),
      { longs: String, enums: String, defaults: true, oneofs: true, includeDirs: [protoFolder] },
    );
  }

  /** @param service full name, such as `containerd.services.tasks.v1.Tasks` */
  method(service: string, name: string): MethodDefinition<unknown, unknown> {
    const definition = this.#definitions[service];
    const method =
      definition === undefined || isMessage(definition) ? undefined : (definition as ServiceDefinition)[name];
    if (method === undefined) {
      throw new EsbError(`the protocol files have no method ${service}/${name}`, { code: 'Internal' });
    }
    return method;
  }

  /** Wraps a message under containerd's type name: the full name without a host. */
  pack(message: string, value: Readonly<Record<string, unknown>>): AnyValue {
    return { type_url: message, value: this.#message(message).serialize(value) };
  }

  /** Unwraps a message of the given kind. */
  unpack<T>(message: string, any: AnyValue): T {
    return this.#message(message).deserialize(any.value) as T;
  }

  #message(name: string): MessageTypeDefinition<object, object> {
    const definition = this.#definitions[name];
    if (definition === undefined || !isMessage(definition)) {
      throw new EsbError(`the protocol files have no message ${name}`, { code: 'Internal' });
    }
    return definition as MessageTypeDefinition<object, object>;
  }
}

function isMessage(definition: object): boolean {
  return 'format' in definition && typeof definition.format === 'string' && 'deserialize' in definition;
}

/** The time of a timestamp; undefined for zero, which stands for never. */
export function dateOf(timestamp: Timestamp | null | undefined): Date | undefined {
  const seconds = Number(timestamp?.seconds ?? 0);
  // Go's zero time is in the year 1: its protobuf form lies before the epoch.
  if (timestamp === null || timestamp === undefined || seconds <= 0) {
    return undefined;
  }
  return new Date(seconds * 1000 + Math.floor(timestamp.nanos / 1e6));
}
