import { createHmac } from 'node:crypto';

/** The key that signatures of one day, region and service are made with. */
export function deriveSigningKey(secret: string, date: string, region: string, service: string): Buffer {
  const ofDate = hmac(`AWS4${secret}`, date);
  const ofRegion = hmac(ofDate, region);
  const ofService = hmac(ofRegion, service);
  return hmac(ofService, 'aws4_request');
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
