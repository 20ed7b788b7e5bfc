import { randomBytes } from 'node:crypto';
import { gatewayUri } from '../api/gateway-name.ts';
import { GATEWAY_COMMON_NAME, GATEWAY_SIGNER } from '../api/name.ts';
import { type CallOptions, withDeadline } from '../common/deadline.ts';
import { EsbError } from '../common/errors.ts';
import { type CertifiedKey, certificateRequest } from '../common/x509.ts';
import type { CertificateSigningRequest } from '../kube/api/resource-types.ts';
import { type Cluster, kubectlObject, kubectlText } from './kubectl-command.ts';
import { lookUntil } from './wait.ts';

const REQUEST_PREFIX = 'esb-cli-';
/** Least validity that the API server takes; the certificate is not kept. */
const LIFETIME_SECONDS = 600;
const DEADLINE_MS = 30_000;

/**
 * Gets a certificate that agents accept, for some minutes and for this process alone: a request for the signer of the
 * gateways, which the caller approves by its own rights (`approve` on the signer, `update` on the approval of requests)
 * and the controller signs. The key does not leave this process.
 *
 * @param namespaces those whose workers it is for
 * @throws {EsbError} `CommandFailed` where the caller may not do that, `DeadlineExceeded` when no controller signs
 */
export async function requestClientCertificate(
  namespaces: readonly string[],
  cluster: Cluster,
  options: CallOptions = {},
): Promise<CertifiedKey> {
  const deadlineMs = options.deadlineMs ?? DEADLINE_MS;
  return await withDeadline('getting a client certificate', deadlineMs, options.signal, async (signal) => {
    const { request, privateKey } = await certificateRequest(GATEWAY_COMMON_NAME, namespaces.map(gatewayUri));
    const name = `${REQUEST_PREFIX}${randomBytes(8).toString('hex')}`;
    await kubectlText(['create', '-f', '-'], cluster, {
      signal,
      input: JSON.stringify({
        apiVersion: 'certificates.k8s.io/v1',
        kind: 'CertificateSigningRequest',
        metadata: { name },
        spec: {
          signerName: GATEWAY_SIGNER,
          request: Buffer.from(request).toString('base64'),
          usages: ['digital signature', 'client auth'],
          expirationSeconds: LIFETIME_SECONDS,
        },
      }),
    });
    try {
      await kubectlText(['certificate', 'approve', name], cluster, { signal });
      return { certificate: await issued(name, cluster, signal), privateKey };
    } finally {
      // The request is no longer needed; the API server would remove it in an hour.
      await kubectlText(['delete', 'certificatesigningrequest', name, '--ignore-not-found'], cluster, {}).catch(
        () => undefined,
      );
    }
  });
}

async function issued(name: string, cluster: Cluster, signal: AbortSignal): Promise<string> {
  const look = async (): Promise<string> => {
    const args = ['certificatesigningrequest', name];
    const { status } = await kubectlObject<CertificateSigningRequest>(args, cluster, { signal });
    const refusal = status?.conditions?.find(({ type }) => type === 'Denied' || type === 'Failed');
    if (refusal !== undefined) {
      throw new EsbError(`the certificate was refused (${refusal.reason ?? ''}): ${refusal.message ?? ''}`, {
        code: 'RequestDenied',
      });
    }
    return status?.certificate ?? '';
  };
  const certificate = await lookUntil(look, (found) => found !== '', { signal });
  return Buffer.from(certificate, 'base64').toString('utf8');
}
