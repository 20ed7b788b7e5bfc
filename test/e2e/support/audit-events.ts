import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { AuditEvent } from '../../support/api-server.ts';
import type { Instance } from './instance.ts';

/** Entries of the audit log of the instance's API server. */
export async function auditEvents(esb: Instance): Promise<readonly AuditEvent[]> {
  const text = await readFile(join(esb.home, 'logs', 'audit.jsonl'), 'utf8');
  return text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as AuditEvent)
    .filter((event) => event.stage === 'ResponseComplete');
}
