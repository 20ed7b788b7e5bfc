import { createHash } from 'node:crypto';
import type { DesiredWorker } from './desired-worker.ts';

/**
 * Name of a worker's container of one shape: the same whenever it is asked for, so that a record lost costs nothing. Those
 * of two shapes stand side by side while one replaces the other.
 */
export function containerIdOf(identity: DesiredWorker['identity'], shapeHash: string): string {
  const digest = createHash('sha256').update(`${identity.uid} ${shapeHash}`).digest('hex').slice(0, 8);
  return `${identity.name.slice(0, 40).replace(/[^A-Za-z0-9]+$/, '')}-${digest}`;
}
