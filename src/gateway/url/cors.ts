import type { LambdaFunctionSpecUrlCors } from '../../api/lambda-function.ts';

/** Names of headers, in small letters, with their values. */
export type HeaderList = readonly (readonly [name: string, value: string])[];

/** The page that sends a request, by its headers; empty for a header that is not there. */
export interface CorsRequest {
  readonly method: string;
  readonly origin: string;
  /** Access-Control-Request-Method. */
  readonly wantedMethod: string;
  /** Access-Control-Request-Headers, a list. */
  readonly wantedHeaders: string;
}

const ANY = '*';
/** Seconds for which browsers keep the answer to a preflight, where the function says nothing; as in Lambda. */
const MAX_AGE_SECONDS = 5;

/** Whether a browser asks if a page may send a request. Without a configuration that is a call like any other. */
export function isPreflight({ method, origin, wantedMethod }: CorsRequest): boolean {
  return method === 'OPTIONS' && origin !== '' && wantedMethod !== '';
}

/** Headers of the answer to a preflight. A page of another origin gets none, and its browser sends nothing. */
export function preflightHeaders(cors: LambdaFunctionSpecUrlCors, request: CorsRequest): HeaderList {
  const { origin, wantedHeaders, wantedMethod } = request;
  const shared = sharedHeaders(cors, origin);
  if (!isAllowed(cors, origin)) {
    return shared;
  }
  const { allowHeaders = [], allowMethods = [], maxAgeSeconds = MAX_AGE_SECONDS } = cors;
  return [
    ...shared,
    ...listed('access-control-allow-methods', allowMethods, [wantedMethod]),
    ...listed('access-control-allow-headers', allowHeaders, [wantedHeaders]),
    ['access-control-max-age', String(maxAgeSeconds)],
  ];
}

/**
 * Headers of the answer to a call.
 *
 * @param own those of the function that stand beside them
 */
export function corsHeaders(cors: LambdaFunctionSpecUrlCors, { origin }: CorsRequest, own: HeaderList): HeaderList {
  const shared = sharedHeaders(cors, origin);
  return isAllowed(cors, origin)
    ? [
        ...shared,
        ...listed(
          'access-control-expose-headers',
          cors.exposeHeaders ?? [],
          own.map(([name]) => name),
        ),
      ]
    : shared;
}

/** The headers of a function's own answer that remain beside those of the configuration. */
export function withoutCors(headers: HeaderList): HeaderList {
  return headers.filter(([name]) => !name.startsWith('access-control-'));
}

function isAllowed({ allowOrigins = [] }: LambdaFunctionSpecUrlCors, origin: string): boolean {
  return origin !== '' && allowOrigins.some((allowed) => allowed === ANY || allowed === origin);
}

function sharedHeaders(cors: LambdaFunctionSpecUrlCors, origin: string): HeaderList {
  const { allowCredentials = false, allowOrigins = [] } = cors;
  const forAll = allowOrigins.includes(ANY);
  // The answer differs from origin to origin, which caches have to know of.
  const vary: HeaderList = forAll ? [] : [['vary', 'Origin']];
  if (!isAllowed(cors, origin)) {
    return vary;
  }
  return [
    ['access-control-allow-origin', forAll ? ANY : origin],
    // Browsers refuse the two together, and so does the schema.
    ...(allowCredentials && !forAll ? ([['access-control-allow-credentials', 'true']] as const) : []),
    ...vary,
  ];
}

/**
 * A header that allows what a configuration has.
 *
 * @param meant by `*` here. Browsers take `*` for a name like others where cookies go along, and never for
 *   Authorization.
 */
function listed(name: string, values: readonly string[], meant: readonly string[]): HeaderList {
  const all = values.includes(ANY) ? [...new Set([...values, ...meant])].filter((value) => value !== '') : values;
  return all.length === 0 ? [] : [[name, all.join(',')]];
}
