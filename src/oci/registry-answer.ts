import type { Dispatcher } from 'undici';
import { EsbError } from '../common/errors.ts';

export type Answer = Dispatcher.ResponseData;

/** Code of a request that the registry refuses. */
export type Refusal = 'ImagePullFailed' | 'ImagePushFailed';

const MAX_ERROR_BYTES = 64 * 1024;

/**
 * The content of an answer.
 *
 * @param what subject of the error
 * @throws {EsbError} `InvalidAnswer` for more than `maxBytes`; errors of the connection
 */
export async function contentOf({ body }: Answer, what: string, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += (chunk as Buffer).length;
    if (size > maxBytes) {
      throw new EsbError(`${what} is longer than ${maxBytes} bytes`, { code: 'InvalidAnswer' });
    }
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

/** The error of an answer that refuses a request, with the registry's own words and the way out. */
export async function refusal(code: Refusal, what: string, answer: Answer): Promise<EsbError> {
  const { statusCode } = answer;
  const content = await contentOf(answer, 'the error', MAX_ERROR_BYTES).catch(() => Buffer.alloc(0));
  const words = wordsOf(content.toString('utf8'));
  const hint =
    statusCode === 401 || statusCode === 403 ? '; log in with docker login, or another tool that writes its file' : '';
  return new EsbError(`${what}: the registry answered ${statusCode}${words === '' ? '' : `: ${words}`}${hint}`, {
    code: statusCode === 404 && code === 'ImagePullFailed' ? 'ImageNotFound' : code,
    retryable: statusCode >= 500 || statusCode === 429,
  });
}

/** The messages in an error of a registry. */
function wordsOf(text: string): string {
  try {
    const { errors = [] } = JSON.parse(text) as {
      readonly errors?: readonly { readonly code?: string; readonly message?: string }[];
    };
    return errors.map(({ code, message }) => [code, message].filter(Boolean).join(' ')).join('; ');
  } catch {
    return text.trim().slice(0, 200);
  }
}
