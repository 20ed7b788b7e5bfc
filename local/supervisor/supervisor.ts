import { mkdir, readFile, rm } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { writeFileAtomically } from '../../src/common/atomic-file.ts';
import type { Clock } from '../../src/common/clock.ts';
import { EsbError, errnoOf } from '../../src/common/errors.ts';
import { Limiter } from '../../src/common/limiter.ts';
import type { Logger } from '../../src/common/logger.ts';
import type { Home } from '../common/home.ts';
import { type PartSpec, partFingerprint } from './part.ts';
import { SupervisedPart } from './supervised-part.ts';
import type { SupervisorStatus } from './supervisor-client.ts';

export interface SupervisorOptions {
  readonly home: Home;
  /** The environment that all parts share. */
  readonly env: NodeJS.ProcessEnv;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Keeps the parts of a local instance running and takes commands on a Unix socket, in HTTP and JSON. The parts outlive
 * the supervisor: its successor takes them over from their records.
 */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #parts = new Map<string, SupervisedPart>();
  readonly #over = Promise.withResolvers<void>();
  readonly #changes = new Limiter(1);

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** Serves until it is shut down or `signal` fires. In the latter case the parts go on. */
  async run(signal: AbortSignal): Promise<void> {
    const { home, logger } = this.#options;
    await mkdir(home.run, { recursive: true, mode: 0o700 });
    await this.#apply(await this.#recall(), false);
    const server = createServer((request, response) => {
      this.#serve(request, response).catch((error: unknown) => {
        logger.error({ err: error }, 'request failed');
        response.destroy();
      });
    });
    await rm(home.supervisorSocket, { force: true });
    const listening = Promise.withResolvers<void>();
    server.once('error', listening.reject);
    server.listen(home.supervisorSocket, () => listening.resolve());
    await listening.promise;
    logger.info('supervisor ready');
    const onAbort = (): void => this.#over.resolve();
    signal.addEventListener('abort', onAbort, { once: true });
    if (!signal.aborted) {
      await this.#over.promise;
    }
    server.close();
    server.closeAllConnections();
    for (const part of this.#parts.values()) {
      part.release();
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const body = await readBody(request);
      const answer = await this.#handle(request.method ?? '', request.url ?? '', body);
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify(answer ?? {}));
    } catch (error) {
      const { code, message } = EsbError.from(error);
      response.writeHead(code === 'NotFound' ? 404 : 500, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ code, message }));
    }
  }

  async #handle(method: string, path: string, body: unknown): Promise<unknown> {
    if (method === 'GET' && path === '/parts') {
      return this.#status();
    }
    if (method === 'PUT' && path === '/parts') {
      return this.#change(() => this.#apply((body as { readonly parts: readonly PartSpec[] }).parts, true));
    }
    if (method === 'POST' && path === '/shutdown') {
      return this.#change(async () => {
        await this.#stopAll();
        // After the answer has gone out.
        setImmediate(() => this.#over.resolve());
      });
    }
    const match = /^\/parts\/([^/]+)\/(stop|start|restart)$/.exec(path);
    if (method === 'POST' && match !== null) {
      const how = (body as { readonly with?: 'SIGTERM' | 'SIGKILL' } | undefined)?.with ?? 'SIGTERM';
      return this.#act(decodeURIComponent(match[1] ?? ''), match[2] ?? '', how);
    }
    throw new EsbError(`${method} ${path} is not known`, { code: 'NotFound' });
  }

  async #status(): Promise<SupervisorStatus> {
    const parts = await Promise.all([...this.#parts.values()].map((part) => part.status()));
    return { supervisor: { pid: process.pid }, parts };
  }

  async #act(name: string, action: string, how: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const part = this.#parts.get(name);
    if (part === undefined) {
      throw new EsbError(`there is no part ${name}; there are: ${[...this.#parts.keys()].join(', ')}`, {
        code: 'NotFound',
      });
    }
    await part.run(async () => {
      if (action !== 'start') {
        await part.stop(how);
      }
      if (action !== 'stop') {
        await part.start();
      }
    });
  }

  /** One change of the set of parts at a time. */
  #change(action: () => Promise<void>): Promise<void> {
    return this.#changes.run(action);
  }

  async #apply(specs: readonly PartSpec[], evenIfStopped: boolean): Promise<void> {
    const { home } = this.#options;
    await writeFileAtomically(partsFile(home), JSON.stringify(specs));
    const wanted = new Map(specs.map((spec) => [spec.name, spec]));
    for (const part of [...this.#parts.values()].reverse()) {
      const spec = wanted.get(part.spec.name);
      if (spec === undefined || partFingerprint(spec) !== partFingerprint(part.spec)) {
        await part.run(() => part.stop('SIGTERM'));
        await part.forget();
        this.#parts.delete(part.spec.name);
      }
    }
    const ordered = specs.map((spec) => this.#parts.get(spec.name) ?? this.#newPart(spec));
    this.#parts.clear();
    for (const part of ordered) {
      this.#parts.set(part.spec.name, part);
    }
    for (const part of ordered) {
      await part.run(() => part.adoptOrStart(evenIfStopped));
    }
  }

  #newPart(spec: PartSpec): SupervisedPart {
    const { home, env, clock, logger } = this.#options;
    return new SupervisedPart({
      spec,
      recordFile: join(home.run, `${spec.name}.json`),
      env,
      clock,
      log: (fields, message) => logger.info(fields, message),
    });
  }

  async #stopAll(): Promise<void> {
    for (const part of [...this.#parts.values()].reverse()) {
      await part.run(() => part.stop('SIGTERM'));
    }
  }

  /** The parts of an earlier supervisor. */
  async #recall(): Promise<readonly PartSpec[]> {
    try {
      return JSON.parse(await readFile(partsFile(this.#options.home), 'utf8')) as PartSpec[];
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') {
        return [];
      }
      throw error;
    }
  }
}

function partsFile(home: Home): string {
  return join(home.run, 'parts');
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) {
    chunks.push(chunk as Buffer);
  }
  const text = Buffer.concat(chunks).toString();
  return text === '' ? undefined : JSON.parse(text);
}
