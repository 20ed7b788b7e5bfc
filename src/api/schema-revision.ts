import type { Clock } from '../common/clock.ts';
import { type CallOptions, sleep } from '../common/deadline.ts';
import { messageOf } from '../common/errors.ts';
import type { Health, HealthReason } from '../common/health.ts';
import type { Logger } from '../common/logger.ts';
import { type CustomResourceDefinition, customResourceDefinitions } from '../kube/api/resource-types.ts';
import type { KubeClient } from '../kube/api/types.ts';

/** Annotation of our CustomResourceDefinitions that counts the changes which a role depends on. */
export const SCHEMA_REVISION_ANNOTATION = 'esb.dev/schema-revision';

/** The revision that this program needs; the definitions in `crds/` carry it. */
export const SCHEMA_REVISION = 17;

/** Names of the CustomResourceDefinitions that every role goes by. */
export const DEFINITION_NAMES = ['lambdanodes.esb.dev', 'lambdaquotas.esb.dev', 'lambdaworkers.esb.dev'] as const;

/** Definitions for roles that go by functions as well: the controller and gateways. */
export const FUNCTION_DEFINITIONS: readonly string[] = [
  ...DEFINITION_NAMES,
  'lambdafunctions.esb.dev',
  'lambdaversions.esb.dev',
];

const RETRY_MS = 3_000;
const READ_DEADLINE_MS = 10_000;

/**
 * Whether one of our definitions is installed in the revision that this program needs. A newer one fits: changes are
 * additive. An older one makes the API server refuse each status with a newer field as a whole.
 *
 * @param installed the definition as the API server has it; undefined when it has none
 */
export function checkDefinition(
  name: string,
  installed: Pick<CustomResourceDefinition, 'metadata'> | undefined,
): Health {
  if (installed === undefined) {
    return {
      ok: false,
      reason: 'DefinitionMissing',
      message: `the API server does not know ${name}: apply the resource definitions in crds/`,
    };
  }
  const text = installed.metadata.annotations?.[SCHEMA_REVISION_ANNOTATION];
  const revision = Number(text ?? 'none');
  if (Number.isInteger(revision) && revision >= SCHEMA_REVISION) {
    return { ok: true };
  }
  return {
    ok: false,
    reason: 'DefinitionTooOld',
    message: `${name} is installed in schema revision ${text ?? 'none'} and this program needs ${SCHEMA_REVISION}: apply the resource definitions in crds/ of this version`,
  };
}

/** Whether the definitions of a role fit. Errors are those of the API server. */
export async function checkDefinitions(
  client: Pick<KubeClient, 'get'>,
  options: CallOptions,
  names: readonly string[] = DEFINITION_NAMES,
): Promise<Health> {
  for (const name of names) {
    const fit = checkDefinition(name, await client.get(customResourceDefinitions, { name }, options));
    if (!fit.ok) {
      return fit;
    }
  }
  return { ok: true };
}

export interface SchemaWaitOptions {
  readonly client: Pick<KubeClient, 'get'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Reason of the health while the API server cannot be read. */
  readonly unreadable: HealthReason;
  readonly report: (health: Health) => void;
  /** Definitions that the role needs; {@link DEFINITION_NAMES} by default. */
  readonly definitions?: readonly string[];
}

/**
 * Waits until the installed resource definitions fit this program.
 *
 * @throws {AbortedError} when `signal` fires
 */
export async function waitForSchema(options: SchemaWaitOptions, signal: AbortSignal): Promise<void> {
  const { client, clock, definitions, logger, report, unreadable } = options;
  let last = '';
  for (;;) {
    const call = { signal, deadlineMs: READ_DEADLINE_MS };
    const health = await checkDefinitions(client, call, definitions).catch((error): Health => {
      signal.throwIfAborted();
      return { ok: false, reason: unreadable, message: `cannot read the resource definitions: ${messageOf(error)}` };
    });
    report(health);
    if (health.ok) {
      return;
    }
    if (health.message !== last) {
      logger.warn({ reason: health.reason, message: health.message }, 'waiting for the resource definitions');
      last = health.message;
    }
    await sleep(clock, RETRY_MS, signal);
  }
}
