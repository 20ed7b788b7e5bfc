import { hash } from 'node:crypto';
import { type TokenReview, tokenReviews } from '../../kube/api/resource-types.ts';
import type { KubeClient } from '../../kube/api/types.ts';
import { LambdaError } from '../lambda/lambda-error.ts';
import { AccessCache, type AccessCacheOptions, strangerAt } from './access-cache.ts';
import type { Principal } from './principal.ts';

type TokenVerdict =
  | { readonly kind: 'accepted'; readonly principal: Principal }
  | { readonly kind: 'refused'; readonly reason: string };

export interface TokenReviewerOptions
  extends Pick<AccessCacheOptions<TokenVerdict>, 'clock' | 'tasks' | 'graceMs' | 'isAway' | 'strangers'> {
  readonly client: Pick<KubeClient, 'create'>;
  /** Audiences of which a token has to be for one. */
  readonly audiences: readonly string[];
  /** Milliseconds that an answer is good for, where it is yes and where it is no. */
  readonly acceptedMs: number;
  readonly refusedMs: number;
}

/**
 * Longest token that is reviewed. Those of service accounts have about 1,200 characters; Node.js takes 16 KiB of
 * headers.
 */
const MAX_TOKEN_LENGTH = 16_384;
/** Milliseconds by which the clocks of the token's issuer and of the gateway may differ. */
const MAX_CLOCK_DIFFERENCE_MS = 60_000;

/** Asks the API server whose bearer token one is. */
export class TokenReviewer {
  readonly #options: TokenReviewerOptions;
  readonly #verdicts: AccessCache<TokenVerdict>;

  constructor(options: TokenReviewerOptions) {
    this.#options = options;
    const { acceptedMs, refusedMs } = options;
    this.#verdicts = new AccessCache({
      ...options,
      what: 'review of a token',
      ttlMs: (verdict) => (verdict.kind === 'accepted' ? acceptedMs : refusedMs),
    });
  }

  /**
   * The principal of a token. An expired token is refused at once, even with a cached answer.
   *
   * @param address the address that questions to the API server count for
   * @throws {LambdaError} UnrecognizedClientException, ExpiredTokenException, TooManyRequestsException, or
   *   ServiceException (503)
   */
  identify(token: string, address: string): Principal | Promise<Principal> {
    if (token === '' || token.length > MAX_TOKEN_LENGTH) {
      throw unrecognized();
    }
    const endsAtMs = endOf(token);
    if (endsAtMs + MAX_CLOCK_DIFFERENCE_MS <= this.#options.clock.now()) {
      throw expired();
    }
    const verdict = this.#verdicts.get(
      hash('sha256', token),
      (signal) => this.#review(token, signal),
      strangerAt(address),
    );
    return verdict instanceof Promise ? verdict.then(principalOf) : principalOf(verdict);
  }

  async #review(token: string, signal: AbortSignal): Promise<TokenVerdict> {
    const { client, audiences } = this.#options;
    const { status } = await client.create<TokenReview>(
      tokenReviews,
      { metadata: { name: '' }, spec: { token, audiences } },
      { signal },
    );
    const { user } = status ?? {};
    if (status?.authenticated !== true || user?.username === undefined || user.username === '') {
      return { kind: 'refused', reason: status?.error ?? '' };
    }
    // An authenticator without audiences leaves this out: its tokens are for the API server alone.
    if (status.audiences?.some((audience) => audiences.includes(audience)) !== true) {
      return { kind: 'refused', reason: 'the token is for another audience' };
    }
    return {
      kind: 'accepted',
      principal: {
        kind: 'Token',
        user: user.username,
        uid: user.uid ?? '',
        groups: user.groups ?? [],
        extra: user.extra ?? {},
      },
    };
  }
}

function principalOf(verdict: TokenVerdict): Principal {
  if (verdict.kind === 'refused') {
    throw /expired/i.test(verdict.reason) ? expired() : unrecognized();
  }
  return verdict.principal;
}

/**
 * The expiry in a token itself, in milliseconds since the epoch; infinite for none. The claim is not verified: it may
 * only refuse, until the API server has confirmed the whole token.
 */
function endOf(token: string): number {
  const [, claims = '', ...rest] = token.split('.');
  try {
    const { exp } = JSON.parse(Buffer.from(claims, 'base64url').toString('utf8')) as { readonly exp?: unknown };
    const end = rest.length === 1 ? Number(exp) : Number.NaN;
    return Number.isFinite(end) ? end * 1000 : Number.POSITIVE_INFINITY;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

function unrecognized(): LambdaError {
  return new LambdaError('UnrecognizedClientException', 'The security token included in the request is invalid.');
}

function expired(): LambdaError {
  return new LambdaError('ExpiredTokenException', 'The security token included in the request is expired.');
}
