import { SERVE_VERB } from '../../api/gateway-name.ts';
import { lambdaWorkers } from '../../api/lambda-worker.ts';
import { GATEWAY_SIGNER } from '../../api/name.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { hasCode } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import type { CertifiedKey } from '../../common/x509.ts';
import {
  type CertificateSigningRequest,
  certificateSigningRequests,
  subjectAccessReviews,
} from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import { type GatewayRequest, readGatewayRequest, signGatewayRequest } from './ca.ts';

/** Of a server that gateways hand events to. Its certificate names namespaces as that of a gateway does. */
const SERVER_USAGE = 'server auth';
const allowedUsages = ['client auth', SERVER_USAGE, 'digital signature', 'key encipherment'];

export type RequestStep =
  | { readonly kind: 'nothing'; readonly because: string }
  | { readonly kind: 'refuse'; readonly message: string }
  | { readonly kind: 'sign'; readonly isApproved: boolean };

/** State of a request after a look: final, or to be looked at again in a moment or in a while. */
export type RequestStanding = 'settled' | 'waits' | 'unapproved';

/** Milliseconds until the next look at a request that waits for the authority, or for an approval or a right of its sender. */
const REQUEST_REQUEUE_MS: Readonly<Record<Exclude<RequestStanding, 'settled'>, number>> = {
  waits: 1_000,
  unapproved: 15_000,
};

/** The next look at a request, beside that at its next change. */
export function requeueAfter(standing: RequestStanding): { readonly requeueAfterMs?: number } {
  return standing === 'settled' ? {} : { requeueAfterMs: REQUEST_REQUEUE_MS[standing] };
}

function has(request: CertificateSigningRequest, type: string): boolean {
  return request.status?.conditions?.some((condition) => condition.type === type) === true;
}

/** The step that a request is due, by its content and status. */
export function requestStep(request: CertificateSigningRequest): RequestStep {
  const { spec, status } = request;
  if (spec.signerName !== GATEWAY_SIGNER) {
    return { kind: 'nothing', because: 'the request is for another signer' };
  }
  if (status?.certificate !== undefined || has(request, 'Denied') || has(request, 'Failed')) {
    return { kind: 'nothing', because: 'the request is settled' };
  }
  const usages = spec.usages ?? [];
  if (!usages.includes('client auth') || usages.some((usage) => !allowedUsages.includes(usage))) {
    return {
      kind: 'refuse',
      message: `usages are ${usages.join(', ')}; "client auth" is needed, and beside it only "server auth", "digital signature" and "key encipherment" are signed`,
    };
  }
  return { kind: 'sign', isApproved: has(request, 'Approved') };
}

export interface CsrSignerOptions {
  readonly client: KubeClient;
  readonly authority: () => CertifiedKey | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onSigned?: () => void;
}

/**
 * Signs one request that a user has approved. A request whose sender Kubernetes lets serve every namespace that the
 * request names is approved here.
 *
 * @returns `waits` while there is no authority, `unapproved` while neither holds
 */
export async function signRequest(
  request: CertificateSigningRequest,
  options: CsrSignerOptions,
  callOptions?: CallOptions,
): Promise<RequestStanding> {
  const { client, clock, logger } = options;
  const step = requestStep(request);
  if (step.kind === 'nothing') {
    logger.debug({ request: request.metadata.name, because: step.because }, 'certificate request left alone');
    return 'settled';
  }
  const authority = options.authority();
  if (authority === undefined) {
    return 'waits';
  }
  const stamp = `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
  const conditionsWith = (type: string, reason: string, message: string) => [
    ...(request.status?.conditions ?? []),
    { type, status: 'True', reason, message, lastUpdateTime: stamp, lastTransitionTime: stamp },
  ];
  const write = (
    subresource: 'status' | 'approval',
    base: CertificateSigningRequest,
    status: NonNullable<CertificateSigningRequest['status']>,
  ): Promise<CertificateSigningRequest> => {
    const changed = { ...base, status: { ...base.status, ...status } };
    return client.update(certificateSigningRequests, changed, { ...callOptions, subresource });
  };
  const refuse = async (message: string): Promise<RequestStanding> => {
    await write('status', request, { conditions: conditionsWith('Failed', 'RequestRefused', message) });
    logger.warn({ request: request.metadata.name, message }, 'certificate request refused');
    return 'settled';
  };

  if (step.kind === 'refuse') {
    return refuse(step.message);
  }
  const { request: encoded, expirationSeconds } = request.spec;
  let read: GatewayRequest;
  try {
    read = await readGatewayRequest(Buffer.from(encoded, 'base64').toString('utf8'));
  } catch (error) {
    if (!hasCode(error, 'RequestRefused')) {
      throw error;
    }
    return refuse(error.message);
  }
  const { namespaces } = read;
  if (!step.isApproved) {
    const foreign = await firstForeign(client, request, namespaces, callOptions);
    if (foreign !== undefined) {
      logger.info(
        { request: request.metadata.name, user: request.spec.username, namespace: foreign },
        'certificate request waits: not approved, and its sender may not serve the namespace',
      );
      return 'unapproved';
    }
  }
  const certificate = await signGatewayRequest(authority, read, clock.now(), {
    expirationSeconds,
    serves: request.spec.usages?.includes(SERVER_USAGE) === true,
  });
  let approved = request;
  if (!step.isApproved) {
    const why = 'its sender may serve the namespaces that it names';
    approved = await write('approval', request, { conditions: conditionsWith('Approved', 'GatewayRequest', why) });
  }
  await write('status', approved, { certificate: Buffer.from(certificate).toString('base64') });
  options.onSigned?.();
  logger.info(
    { request: request.metadata.name, user: request.spec.username, namespaces },
    'gateway certificate signed',
  );
  return 'settled';
}

/** The first of the namespaces that the sender of the request may not serve, if any. */
async function firstForeign(
  client: KubeClient,
  { spec }: CertificateSigningRequest,
  namespaces: readonly string[],
  callOptions?: CallOptions,
): Promise<string | undefined> {
  const { username = '', groups, uid, extra } = spec;
  for (const namespace of namespaces) {
    const { status } = await client.create(
      subjectAccessReviews,
      {
        metadata: { name: '' },
        spec: {
          user: username,
          groups,
          uid,
          extra,
          resourceAttributes: {
            namespace,
            verb: SERVE_VERB,
            group: lambdaWorkers.group,
            version: lambdaWorkers.version,
            resource: lambdaWorkers.plural,
          },
        },
      },
      callOptions,
    );
    if (status?.allowed !== true) {
      return namespace;
    }
  }
  return undefined;
}
