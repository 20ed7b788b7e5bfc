import { X509Certificate } from 'node:crypto';
import { EsbError } from './errors.ts';

/**
 * The certificates of a PEM bundle. Text around them is left out.
 *
 * @throws {EsbError} `InvalidCertificate` when there is none or one cannot be read
 */
export function certificatesIn(pem: string): readonly X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [];
  if (blocks.length === 0) {
    throw new EsbError('no PEM certificate found', { code: 'InvalidCertificate' });
  }
  try {
    return blocks.map((block) => new X509Certificate(block));
  } catch (error) {
    throw new EsbError('a PEM certificate cannot be read', { code: 'InvalidCertificate', cause: error });
  }
}
