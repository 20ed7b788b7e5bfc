import { GATEWAY_SIGNER } from '../api/name.ts';
import type { Clock } from '../common/clock.ts';
import type { CallOptions } from '../common/deadline.ts';
import { hasCode } from '../common/errors.ts';
import type { Logger } from '../common/logger.ts';
import { type CertificateSigningRequest, certificateSigningRequests } from '../kube/resource-types.ts';
import type { KubeClient } from '../kube/types.ts';
import { type AuthorityPair, signGatewayRequest } from './gateway-authority.ts';

const allowedUsages = ['client auth', 'digital signature', 'key encipherment'];

/** Names by which a gateway is known to the API server: in a cluster, and in a local instance. */
export function gatewayUsers(systemNamespace: string): readonly string[] {
  return [`system:serviceaccount:${systemNamespace}:esb-gateway`, 'esb:gateway'];
}

export type RequestStep =
  | { readonly kind: 'nothing'; readonly because: string }
  | { readonly kind: 'refuse'; readonly message: string }
  | { readonly kind: 'sign'; readonly approve: boolean };

function has(request: CertificateSigningRequest, type: string): boolean {
  return request.status?.conditions?.some((condition) => condition.type === type) === true;
}

/** What is to be done about a request: a gateway's own are approved and signed; others only once somebody approved them. */
export function requestStep(request: CertificateSigningRequest, users: readonly string[]): RequestStep {
  const { spec, status } = request;
  if (spec.signerName !== GATEWAY_SIGNER) {
    return { kind: 'nothing', because: 'it is for another signer' };
  }
  if (status?.certificate !== undefined || has(request, 'Denied') || has(request, 'Failed')) {
    return { kind: 'nothing', because: 'it is settled' };
  }
  const isApproved = has(request, 'Approved');
  if (!isApproved && !users.includes(spec.username ?? '')) {
    return {
      kind: 'nothing',
      because: `it is from ${spec.username}, who is no gateway, and nobody approved it`,
    };
  }
  const foreign = spec.usages.filter((usage) => !allowedUsages.includes(usage));
  if (foreign.length > 0 || !spec.usages.includes('client auth')) {
    return {
      kind: 'refuse',
      message: `usages are ${spec.usages.join(', ')}; "client auth" is needed, and beside it only "digital signature" and "key encipherment" are signed`,
    };
  }
  return { kind: 'sign', approve: !isApproved };
}

export interface RequestSignerOptions {
  readonly client: KubeClient;
  readonly users: readonly string[];
  /** The authority that signs now. */
  readonly authority: () => AuthorityPair | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told of each certificate that was issued. */
  readonly onSigned?: () => void;
}

/**
 * Approves and signs one request.
 *
 * @returns whether it is settled; it is not while there is no authority
 */
export async function settleRequest(
  request: CertificateSigningRequest,
  options: RequestSignerOptions,
  callOptions?: CallOptions,
): Promise<boolean> {
  const { client, users, clock, logger } = options;
  const step = requestStep(request, users);
  if (step.kind === 'nothing') {
    logger.debug({ request: request.metadata.name, because: step.because }, 'certificate request left alone');
    return true;
  }
  const authority = options.authority();
  if (authority === undefined) {
    return false;
  }
  const stamp = `${new Date(clock.now()).toISOString().slice(0, 19)}Z`;
  const condition = (type: string, reason: string, message: string) => ({
    type,
    status: 'True',
    reason,
    message,
    lastUpdateTime: stamp,
    lastTransitionTime: stamp,
  });
  const withStatus = (
    base: CertificateSigningRequest,
    status: NonNullable<CertificateSigningRequest['status']>,
  ): CertificateSigningRequest => ({ ...base, status: { ...base.status, ...status } });
  const refuse = async (message: string): Promise<void> => {
    const conditions = [
      ...(request.status?.conditions ?? []),
      condition('Failed', 'RequestRefused', message),
    ];
    await client.update(certificateSigningRequests, withStatus(request, { conditions }), {
      ...callOptions,
      subresource: 'status',
    });
    logger.warn({ request: request.metadata.name, message }, 'certificate request refused');
  };

  if (step.kind === 'refuse') {
    await refuse(step.message);
    return true;
  }
  let certificate: string;
  try {
    const { request: encoded, expirationSeconds } = request.spec;
    certificate = await signGatewayRequest(
      authority,
      Buffer.from(encoded, 'base64').toString('utf8'),
      clock.now(),
      expirationSeconds,
    );
  } catch (error) {
    if (!hasCode(error, 'RequestRefused')) {
      throw error;
    }
    await refuse(error.message);
    return true;
  }
  let approved = request;
  if (step.approve) {
    const conditions = [
      ...(request.status?.conditions ?? []),
      condition('Approved', 'GatewayRequest', 'sent by a gateway itself'),
    ];
    approved = await client.update(certificateSigningRequests, withStatus(request, { conditions }), {
      ...callOptions,
      subresource: 'approval',
    });
  }
  await client.update(
    certificateSigningRequests,
    withStatus(approved, { certificate: Buffer.from(certificate).toString('base64') }),
    { ...callOptions, subresource: 'status' },
  );
  options.onSigned?.();
  logger.info({ request: request.metadata.name, user: request.spec.username }, 'gateway certificate signed');
  return true;
}
