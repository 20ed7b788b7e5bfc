import type { RequestListener, Server } from 'node:http';
import type { Clock } from '../common/clock.ts';
import { EsbError } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import type { HostPort } from '../common/host-port.ts';
import type { Logger } from '../common/logger.ts';
import { TaskGroup } from '../common/task-group.ts';
import { type Secret, secrets } from '../kube/api/resource-types.ts';
import type { Informer, KubeClient } from '../kube/api/types.ts';
import { ListWatchInformer } from '../kube/cache/informer.ts';
import type { GatewayConfig } from '../options/gateway.ts';
import { type Access, createOpenAccess } from './access/access.ts';
import { AccessKeys } from './access/access-keys.ts';
import { AccessReviewer, type AccessReviewerOptions } from './access/access-review.ts';
import { ClientCertificates } from './access/client-certificates.ts';
import { TokenReviewer } from './access/token-review.ts';
import { createVerifiedAccess } from './access/verified-access.ts';
import { createTlsServer, TlsFiles, type TlsPaths, type TlsServer } from './http/tls-server.ts';
import { CallerRates } from './lambda/caller-rate.ts';
import { unavailable } from './lambda/lambda-error.ts';

/** Milliseconds for which a refusal is kept: a caller with a new right should have it soon. */
const REFUSED_MS = 10_000;

/** Milliseconds that a right to write is good for: a tool writes several times in a row. */
const WRITE_MS = 1_000;

/** Seconds' worth of questions that strangers of one address may ask at once, and known addresses. */
const STRANGER_BURST_SECONDS = 5;
const MAX_ADDRESSES = 20_000;

export type AccessFlags = Pick<GatewayConfig, 'callers' | 'tls'>;

export interface GatewayAccessOptions {
  readonly flags: AccessFlags;
  readonly namespace: string;
  readonly client: KubeClient;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether the API server is away, by the gateway's own watches. */
  readonly isApiServerAway: () => boolean;
}

/** Authentication and authorization of callers, and the server that they call. */
export interface GatewayAccess {
  readonly access: Access;
  /** Makes the server of the Lambda API; undefined for one of plain HTTP. */
  readonly createServer: ((listener: RequestListener) => Server) | undefined;
  /** Whether callers can be identified by all means. */
  health(): Health;
  /** Begins to follow the sources of access, and warns where calls are less safe than they might be. */
  start(listen: HostPort): void;
  /** Ends that; from then on no new caller is let in. */
  stop(): Promise<void>;
}

/**
 * Makes the access that the flags ask for.
 *
 * @throws {EsbError} `InvalidCertificate` for TLS files that cannot be used
 */
export async function createGatewayAccess(options: GatewayAccessOptions): Promise<GatewayAccess> {
  const { flags, logger, namespace } = options;
  const tasks = new TaskGroup((task, error) => logger.error({ err: error, task }, 'task failed'));
  const certificates = new ClientCertificates();
  const tls = await openTls(options, certificates);
  // Known once the server listens; there is no call before.
  let onLoopback = false;
  const verified =
    flags.callers.authentication === 'on' ? verify(options, tasks, certificates, () => onLoopback) : undefined;
  return {
    access: verified?.access ?? createOpenAccess(() => onLoopback),
    createServer: tls?.createServer,
    health: () =>
      verified?.keys?.hasSynced() === false
        ? {
            ok: false,
            reason: 'NoAccessKeys',
            message: `the access keys (Secret ${flags.callers.accessKeys} in namespace ${namespace}) have not been read from the API server yet`,
          }
        : { ok: true },
    start(listen) {
      onLoopback = isLoopback(listen.host);
      warn(flags, listen, logger);
      verified?.keys?.start();
      if (tls !== undefined) {
        tasks.run('TLS files', (stop) => tls.files.run(stop));
      }
    },
    async stop() {
      await tasks.stop();
      await verified?.keys?.stop();
    },
  };
}

/** Warns where the API is open to more callers than usual. */
function warn(flags: AccessFlags, listen: HostPort, logger: Logger): void {
  if (isLoopback(listen.host)) {
    return;
  }
  if (flags.callers.authentication === 'off') {
    logger.warn('authentication is off: every client that reaches the port may call every function of the namespace');
  } else if (flags.tls.cert === undefined) {
    logger.warn('no TLS: unless a proxy in front has it, tokens and calls can be read on their way');
  }
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.');
}

function verify(
  options: GatewayAccessOptions,
  tasks: TaskGroup,
  certificates: ClientCertificates,
  isOnLoopback: () => boolean,
): { readonly access: Access; readonly keys: Informer<Secret> | undefined } {
  const { flags, namespace, client, clock, logger } = options;
  const { accessKeys, cacheSeconds, graceSeconds, strangerRate, tokenAudience } = flags.callers;
  const keys = new AccessKeys(logger);
  const fieldSelector = `metadata.name=${accessKeys}`;
  const informer =
    accessKeys === ''
      ? undefined
      : new ListWatchInformer<Secret>(client, secrets, { namespace, fieldSelector }, { logger, clock });
  informer?.subscribe((event) => keys.apply(event));
  const graceMs = graceSeconds * 1000;
  const strangers = new CallerRates(
    { perSecond: strangerRate, burst: Math.max(1, strangerRate * STRANGER_BURST_SECONDS) },
    MAX_ADDRESSES,
  );
  const cached = { client, clock, tasks, graceMs, isAway: options.isApiServerAway, strangers };
  const yesMs = cacheSeconds * 1000;
  const noMs = Math.min(REFUSED_MS, yesMs);
  const access = createVerifiedAccess({
    keys,
    keysNotReady() {
      if (informer === undefined || informer.isCurrent()) {
        return undefined;
      }
      const heardAt = informer.hasSynced() ? informer.lastSuccessAt() : undefined;
      return heardAt !== undefined && clock.monotonic() - heardAt <= graceMs
        ? undefined
        : unavailable('The access keys cannot be read from the Kubernetes API server at the moment.');
    },
    tokens: new TokenReviewer({
      ...cached,
      // A token for the API server itself is refused, since a gateway could use it there. A token for the gateways of
      // one namespace is of no use to a gateway of another that was taken over.
      audiences: tokenAudience.length > 0 ? tokenAudience : [`esb-gateway.${namespace}`, 'esb-gateway'],
      acceptedMs: yesMs,
      refusedMs: noMs,
    }),
    certificates,
    isOnLoopback,
    reviewer: reviewerOf({ ...cached, namespace, allowedMs: yesMs, deniedMs: noMs }),
    clock,
  });
  return { access, keys: informer };
}

/** A reviewer of all actions. Rights to write are asked about for each write, and no answer of old does. */
function reviewerOf(options: AccessReviewerOptions): Pick<AccessReviewer, 'authorize'> {
  const calls = new AccessReviewer(options);
  const writes = new AccessReviewer({ ...options, allowedMs: WRITE_MS, graceMs: 0 });
  return {
    authorize: (principal, action, ...of) =>
      (action === 'invoke' || action === 'get' || action === 'list' ? calls : writes).authorize(
        principal,
        action,
        ...of,
      ),
  };
}

async function openTls(options: GatewayAccessOptions, certificates: ClientCertificates) {
  const { clock, logger } = options;
  const paths = tlsPaths(options.flags.tls);
  if (paths === undefined) {
    return undefined;
  }
  let server: TlsServer | undefined;
  const files = await TlsFiles.open({
    paths,
    clock,
    logger,
    onChange: (material) => {
      certificates.trust(material.clientAuthorities);
      server?.renew(material);
    },
  });
  certificates.trust(files.current.clientAuthorities);
  return {
    files,
    createServer(listener: RequestListener): Server {
      server = createTlsServer(files.current, listener, logger);
      return server.server as unknown as Server;
    },
  };
}

function tlsPaths({ cert, key, clientCa }: AccessFlags['tls']): TlsPaths | undefined {
  if (cert === undefined && key === undefined && clientCa === undefined) {
    return undefined;
  }
  if (cert === undefined || key === undefined) {
    throw new EsbError('--tls-cert and --tls-key go together, and --client-ca needs both', {
      code: 'InvalidArgument',
    });
  }
  return { certificate: cert, privateKey: key, clientAuthority: clientCa };
}
