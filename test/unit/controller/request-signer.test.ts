import { describe, expect, it } from 'vitest';
import { gatewayUsers, requestStep } from '../../../src/controller/request-signer.ts';
import type { CertificateSigningRequest } from '../../../src/kube/resource-types.ts';

const request = (
  spec: Partial<CertificateSigningRequest['spec']> = {},
  conditions: readonly string[] = [],
  certificate?: string,
): CertificateSigningRequest => ({
  metadata: { name: 'esb-gateway-1' },
  spec: {
    signerName: 'esb.dev/gateway-client',
    request: '',
    usages: ['client auth', 'digital signature'],
    username: 'esb:gateway',
    ...spec,
  },
  status: {
    conditions: conditions.map((type) => ({ type, status: 'True' })),
    ...(certificate === undefined ? {} : { certificate }),
  },
});
const users = gatewayUsers('esb-system');

describe('requestStep', () => {
  it.each(['esb:gateway', 'system:serviceaccount:esb-system:esb-gateway'])(
    'approves and signs for %s',
    (username) => {
      expect(requestStep(request({ username }), users)).toEqual({ kind: 'sign', approve: true });
    },
  );

  it.each(['esb:controller', 'system:serviceaccount:default:esb-gateway', 'admin', ''])(
    'leaves the approval of what "%s" sent to people',
    (username) => {
      expect(requestStep(request({ username }), users).kind).toBe('nothing');
      expect(requestStep(request({ username }, ['Approved']), users)).toEqual({
        kind: 'sign',
        approve: false,
      });
    },
  );

  it('leaves alone what is settled, and what is for another signer', () => {
    expect(requestStep(request({}, ['Denied']), users).kind).toBe('nothing');
    expect(requestStep(request({}, ['Failed']), users).kind).toBe('nothing');
    expect(requestStep(request({}, ['Approved'], 'PEM'), users).kind).toBe('nothing');
    expect(requestStep(request({ signerName: 'kubernetes.io/kube-apiserver-client' }), users).kind).toBe(
      'nothing',
    );
  });

  it.each([[['client auth', 'server auth']], [['digital signature']], [[]]])(
    'refuses the usages %j',
    (usages) => {
      expect(requestStep(request({ usages }), users).kind).toBe('refuse');
    },
  );
});
