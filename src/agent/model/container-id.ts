import { createHash } from 'node:crypto';
import type { DesiredWorker } from './desired-worker.ts';

/** Characters of a worker's name in the id. The whole id is at most 63 characters, as the kernel's host names are. */
const nameLength = 30;
/** 128 bits: no tenant finds a worker of their own whose id is that of another worker. */
const digestLength = 32;

/**
 * Name of a worker's container of one shape: the same whenever it is asked for, so that a record lost costs nothing.
 * Containers of two shapes stand side by side while one replaces the other.
 *
 * @param generation counts the containers of one shape, where one stands beside another of the same shape
 */
export function containerIdOf(
  identity: Pick<DesiredWorker['identity'], 'namespace' | 'name' | 'uid'>,
  shapeHash: string,
  generation = 0,
): string {
  const { name, namespace, uid } = identity;
  const input = JSON.stringify([namespace, name, uid, shapeHash, generation]);
  const digest = createHash('sha256').update(input).digest('hex').slice(0, digestLength);
  return `${name.slice(0, nameLength).replace(/[^A-Za-z0-9]+$/, '')}-${digest}`;
}
