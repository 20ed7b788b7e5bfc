import { randomBytes } from 'node:crypto';
import { type AccessKeyPair, readInstanceKey } from '../../src/cli/call-credentials.ts';
import { writeFileAtomically } from '../../src/common/atomic-file.ts';

/** The key of the instance, created where there is none. */
export async function ensureInstanceKey(file: string): Promise<AccessKeyPair> {
  const known = await readInstanceKey(file);
  if (known !== undefined) {
    return known;
  }
  const key: AccessKeyPair = {
    accessKeyId: `ESB${randomBytes(8).toString('hex').toUpperCase()}`,
    secretAccessKey: randomBytes(30).toString('base64'),
  };
  await writeFileAtomically(file, `${JSON.stringify(key, undefined, 2)}\n`);
  return key;
}
