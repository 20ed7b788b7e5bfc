import { type IncomingHttpHeaders, request } from 'node:http';
import type { LambdaFunctionSpecUrl } from '../../src/api/lambda-function.ts';
import type { GatewayOptions } from '../../src/gateway/gateway.ts';
import type { FunctionUrls } from '../../src/gateway/url/function-urls.ts';
import { functionFixture } from './function-fixture.ts';
import { type GatewayLab, gatewayLab } from './gateway-lab.ts';

/** A request of a function URL. */
export interface UrlCall {
  readonly method?: string;
  /** Default that of the function `hello`. */
  readonly host?: string;
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: string | Buffer;
  readonly signal?: AbortSignal;
  /** Nothing of the answer's body is read before. */
  readonly readAfter?: Promise<unknown>;
  /** Hears that status and headers are there. */
  readonly onHead?: () => void;
  /** Hears each piece of the answer. */
  readonly onChunk?: (text: string) => void;
}

export interface UrlReply {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export const HELLO = 'hello.default.fn.example.com';

/** Sends a request as any HTTP client would that the name of the host has led to this port. */
export function callUrl(port: number, call: UrlCall = {}): Promise<UrlReply> {
  const { body, headers, host = HELLO, method = 'GET', onChunk, onHead, path = '/', readAfter, signal } = call;
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port,
        method,
        path,
        agent: false,
        headers: { host, ...headers, ...(body === undefined ? {} : { 'content-length': Buffer.byteLength(body) }) },
        ...(signal === undefined ? {} : { signal }),
      },
      (answer) => {
        onHead?.();
        const chunks: Buffer[] = [];
        answer.on('error', reject);
        answer.on('end', () =>
          resolve({
            status: answer.statusCode ?? 0,
            headers: answer.headers,
            body: Buffer.concat(chunks).toString('latin1'),
          }),
        );
        const read = (): void => {
          answer.on('data', (chunk: Buffer) => {
            chunks.push(chunk);
            onChunk?.(chunk.toString());
          });
        };
        if (readAfter === undefined) {
          read();
        } else {
          readAfter.then(read, reject);
        }
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

/** Settings of the URLs of a gateway under test: without a bound of the rate. */
export function urlSettings(urls: Partial<FunctionUrls> = {}): FunctionUrls {
  return {
    domain: 'fn.example.com',
    isPublic: () => true,
    look: () => Promise.resolve(),
    rate: { perSecond: 0, burst: 1 },
    proxies: [],
    ...urls,
  };
}

export const OPEN: LambdaFunctionSpecUrl = { authType: 'NONE', invokeMode: 'BUFFERED' };

export interface UrlLab extends GatewayLab {
  readonly urlPort: number;
  /** Calls the URL of the function `hello`, unless the call says otherwise. */
  callUrl(call?: UrlCall): Promise<UrlReply>;
}

/** A gateway that serves function URLs, with a worker of the function `hello`. */
export async function urlLab(
  url: LambdaFunctionSpecUrl | null = OPEN,
  options: {
    readonly urls?: Partial<FunctionUrls>;
    readonly gateway?: Partial<GatewayOptions>;
  } = {},
): Promise<UrlLab> {
  const lab = await gatewayLab({ gateway: { ...options.gateway, urls: urlSettings(options.urls) } });
  const port = await lab.gateway.listenForUrls({ host: '127.0.0.1', port: 0 });
  await lab.addWorker('hello');
  lab.functions.put(functionFixture(url === null ? {} : { spec: { url } }));
  return { ...lab, urlPort: port, callUrl: (call) => callUrl(port, call) };
}

/** The events that the agents of a lab were given. */
export function eventsOf({ agent }: Pick<UrlLab, 'agent'>): readonly Readonly<Record<string, unknown>>[] {
  return agent.calls.map(({ payload }) => JSON.parse(payload.toString()) as Readonly<Record<string, unknown>>);
}
