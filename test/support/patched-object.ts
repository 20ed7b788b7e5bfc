import { isDeepStrictEqual } from 'node:util';
import { ApiError } from '../../src/kube/api/api-error.ts';

/** One operation of a JSON patch (RFC 6902). */
interface Operation {
  readonly op: string;
  readonly path: string;
  readonly value?: unknown;
}

type Members = Record<string, unknown>;

/** An object after a JSON patch of `test`, `add`, `replace` and `remove`. Throws as the API server refuses. */
export function jsonPatched<T extends object>(present: T, operations: readonly object[]): T {
  const next = structuredClone(present);
  for (const { op, path, value } of operations as readonly Operation[]) {
    const parts = path.split('/').slice(1);
    const names = parts.map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    const last = names.pop() ?? '';
    const holder = names.reduce<unknown>((at, name) => (at as Members | undefined)?.[name], next);
    apply(holder as Members | undefined, last, op, value);
  }
  return next;
}

function apply(holder: Members | undefined, name: string, op: string, value: unknown): void {
  const isWrong =
    op === 'test' ? !isDeepStrictEqual(holder?.[name], value) : op !== 'add' && holder?.[name] === undefined;
  if (holder === undefined || isWrong) {
    throw new ApiError(`${op} of ${name}`, { code: 'Invalid', status: 422 });
  }
  if (op === 'remove' && Array.isArray(holder)) {
    holder.splice(Number(name), 1);
  } else if (op === 'remove') {
    delete holder[name];
  } else if (op !== 'test') {
    holder[name] = value;
  }
}

/** An object after a JSON merge patch (RFC 7386). */
export function merged(present: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) {
    return patch;
  }
  const base = typeof present === 'object' && present !== null && !Array.isArray(present) ? present : {};
  const result: Members = { ...base };
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) {
      delete result[name];
    } else {
      result[name] = merged(result[name], value);
    }
  }
  return result;
}
