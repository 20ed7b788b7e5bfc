import { stringify } from 'yaml';
import type { IssuedCertificate } from './pki.ts';

export interface KubeconfigFields {
  /** `https://host:port`. */
  readonly server: string;
  /** PEM of the authority that signed the server's certificate. */
  readonly authority: string;
  readonly user: string;
  readonly client: IssuedCertificate;
}

/** The text of a kubeconfig that needs no other file. */
export function kubeconfigText({ server, authority, user, client }: KubeconfigFields): string {
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'esb', cluster: { server, 'certificate-authority-data': base64(authority) } }],
    users: [
      {
        name: user,
        user: {
          'client-certificate-data': base64(client.certificate),
          'client-key-data': base64(client.key),
        },
      },
    ],
    contexts: [{ name: 'esb', context: { cluster: 'esb', user, namespace: 'default' } }],
    'current-context': 'esb',
  });
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}
