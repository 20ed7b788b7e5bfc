import { unreachable } from '../../common/errors.ts';
import type { FunctionOutcome } from '../agents/function-call.ts';
import type { LambdaError } from '../lambda/lambda-error.ts';
import type { HeaderList } from './cors.ts';
import type { UrlAnswer } from './url-answer.ts';

const JSON_TYPE: HeaderList = [['content-type', 'application/json']];

/** The one answer to a host without a URL, a URL that is closed, and a sender without proof or right. */
const FORBIDDEN = answer(403, { Message: 'Forbidden' });

/**
 * The answer to a request that ran nothing. Names of functions, workers and nodes stay inside: anybody may send such a
 * request.
 */
export function refusalOf(error: LambdaError): UrlAnswer {
  const { errorName, reason, retryAfterSeconds, status } = error;
  if (errorName === 'IncompleteSignatureException') {
    return FORBIDDEN;
  }
  const retry: HeaderList = retryAfterSeconds === undefined ? [] : [['retry-after', String(retryAfterSeconds)]];
  switch (status) {
    case 403:
      // The signer needs the reason, and knows of the URL.
      return errorName === 'InvalidSignatureException' || errorName === 'ExpiredTokenException'
        ? answer(403, { Message: error.message })
        : FORBIDDEN;
    case 404:
      return answer(503, { Message: 'Service Unavailable' }, retry);
    case 408:
      return answer(408, { Message: 'Request Timeout' }, [['connection', 'close']]);
    case 413:
      return answer(413, { Message: 'Request Entity Too Large' });
    case 429:
      return answer(429, { ...(reason === undefined ? {} : { Reason: reason }), Message: 'Rate Exceeded.' }, retry);
    case 431:
      return answer(431, { Message: 'Request Header Fields Too Large' });
    // The function has no workers yet.
    case 409:
    case 502:
    case 503:
      return answer(503, { Message: 'Service Unavailable' }, retry);
    default:
      return status < 500
        ? answer(400, { Message: 'Bad Request' })
        : answer(500, { Message: 'Internal Server Error' }, retry);
  }
}

/** The answer to a call whose function gave none; its error is in the log of the function. */
export function failureOf(outcome: FunctionOutcome): UrlAnswer {
  switch (outcome) {
    case 'timed-out':
      return answer(504, { Message: 'Gateway Timeout' });
    case 'answered':
    case 'exited':
    case 'interrupted':
    case 'too-large':
    case 'init-failed':
    case 'unknown':
      return { status: 502, headers: JSON_TYPE, body: Buffer.from('Internal Server Error') };
    default:
      return unreachable(outcome);
  }
}

function answer(status: number, body: object, more: HeaderList = []): UrlAnswer {
  return { status, headers: [...JSON_TYPE, ...more], body: Buffer.from(JSON.stringify(body)) };
}
