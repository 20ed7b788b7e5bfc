import buffer from 'node:buffer';
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { vi } from 'vitest';

/** Work on the bytes of requests that was done in one piece, and so in one turn of the event loop. */
export interface WorkMeter {
  /** Bytes or characters of the largest piece that was parsed, written as JSON, hashed, checked or encoded. */
  readonly largest: number;
  /** Name of that step. */
  readonly step: string;
  /** Bytes that were copied, all together. */
  readonly copied: number;
  /** Begins to count from nothing. */
  reset(): void;
  /** Counts no more. */
  stop(): void;
}

type Sized = string | NodeJS.ArrayBufferView | ArrayBuffer;

const sizeOf = (value: unknown): number =>
  typeof value === 'string' ? value.length : ((value as { readonly byteLength?: number } | undefined)?.byteLength ?? 0);

/** Counts all work in this process, that of a client beside the server too. */
export function meterWork(): WorkMeter {
  let counts = { largest: 0, step: '', copied: 0 };
  const stops: (() => void)[] = [];
  const count = (step: string, size: number): void => {
    if (size > counts.largest) {
      counts = { ...counts, largest: size, step };
    }
  };
  /** Counts the calls of a method by the size of an argument, or of the result. */
  const watch = (owner: object, name: string, sized: (args: readonly unknown[], result: unknown) => number): void => {
    const methods = owner as Record<string, (...args: unknown[]) => unknown>;
    const real = methods[name];
    if (real === undefined) {
      throw new Error(`there is no ${name}`);
    }
    const spy = vi.spyOn(methods, name).mockImplementation(function counted(this: unknown, ...args: unknown[]) {
      const result: unknown = Reflect.apply(real, this, args);
      count(name, sized(args, result));
      return result;
    });
    stops.push(() => spy.mockRestore());
  };
  watch(JSON, 'parse', ([text]) => sizeOf(text));
  watch(JSON, 'stringify', (_args, result) => sizeOf(result));
  watch(crypto, 'hash', ([, data]) => sizeOf(data as Sized));
  watch(crypto.Hash.prototype, 'update', ([data]) => sizeOf(data as Sized));
  watch(buffer, 'isUtf8', ([data]) => sizeOf(data as Sized));
  watch(Buffer.prototype, 'toString', (_args, result) => sizeOf(result));
  watch(Buffer.prototype, 'write', ([text]) => sizeOf(text));
  watch(Buffer.prototype, 'copy', (_args, result) => {
    counts = { ...counts, copied: counts.copied + (result as number) };
    return 0;
  });
  syncBuiltinESMExports();
  return {
    get largest() {
      return counts.largest;
    },
    get step() {
      return counts.step;
    },
    get copied() {
      return counts.copied;
    },
    reset() {
      counts = { largest: 0, step: '', copied: 0 };
    },
    stop() {
      for (const stop of stops) {
        stop();
      }
      syncBuiltinESMExports();
    },
  };
}
