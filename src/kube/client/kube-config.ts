import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { dirname, resolve } from 'node:path';
import { parse } from 'yaml';
import { type Clock, systemClock } from '../../common/clock.ts';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';

/** TLS material, PEM. */
export interface TlsMaterial {
  readonly ca?: string | undefined;
  readonly cert?: string | undefined;
  readonly key?: string | undefined;
  readonly servername?: string | undefined;
  readonly rejectUnauthorized?: boolean;
}

/** Address of the API server, and our credentials for it. */
export interface KubeConnection {
  /** `https://host:port`. */
  readonly origin: string;
  /** Prefix of every path: empty, or a path without a slash at its end. */
  readonly basePath: string;
  readonly tls: TlsMaterial;
  readonly headers: Readonly<Record<string, string>>;
  /** Equal for two connections that can share sockets: same server, same TLS material. */
  readonly fingerprint: string;
}

/** Gives the connection by the present content of its files. */
export interface KubeConnectionSource {
  /**
   * At most `refreshMs` milliseconds old.
   *
   * @throws {EsbError} `InvalidKubeconfig` when the files cannot be read or make no sense
   */
  current(): Promise<KubeConnection>;
  /** Lets the next call read the files again, since the server refused their credentials or was not reached. */
  invalidate(): void;
}

export interface KubeConnectionSourceOptions {
  /** File; the service account of the Pod when absent. */
  readonly kubeconfig?: string | undefined;
  readonly clock?: Clock;
  /** Milliseconds after which files are read again. Default 60,000, as client-go does for tokens. */
  readonly refreshMs?: number;
  /** Folder of the Pod's service account. */
  readonly serviceAccountFolder?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
}

type Fields = Readonly<Record<string, unknown>>;

function invalid(message: string, cause?: unknown): EsbError {
  return new EsbError(message, { code: 'InvalidKubeconfig', cause });
}

function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid(`${what} is not a mapping`);
  }
  return value as Fields;
}

function textField(fields: Fields, name: string): string | undefined {
  const value = fields[name];
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function entryNamed(config: Fields, list: string, name: string, part: string): Fields {
  const entries = config[list];
  const found = (Array.isArray(entries) ? entries : [])
    .map((entry: unknown) => fieldsOf(entry, `an entry of ${list}`))
    .find((entry) => entry.name === name);
  if (found === undefined) {
    throw invalid(`the kubeconfig has no entry "${name}" under ${list}`);
  }
  return fieldsOf(found[part] ?? {}, `${part} "${name}"`);
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw invalid(`cannot read ${file}: ${messageOf(error)}`, error);
  }
}

/** `<name>-data` in base64 or else the file that `<name>` names. */
async function dataOrFile(fields: Fields, name: string, folder: string): Promise<string | undefined> {
  const data = textField(fields, `${name}-data`);
  if (data !== undefined) {
    return Buffer.from(data, 'base64').toString('utf8');
  }
  const file = textField(fields, name);
  return file === undefined ? undefined : readText(resolve(folder, file));
}

function connectionOf(server: string, tls: TlsMaterial, headers: Readonly<Record<string, string>>): KubeConnection {
  if (!URL.canParse(server)) {
    throw invalid(`"${server}" is not the address of an API server`);
  }
  const url = new URL(server);
  const fingerprint = createHash('sha256')
    .update(JSON.stringify([url.origin, tls]))
    .digest('hex');
  return { origin: url.origin, basePath: url.pathname.replace(/\/+$/, ''), tls, headers, fingerprint };
}

/**
 * Credentials of a user entry that take more than reading a file: exec plugins and auth providers. The Kubernetes
 * client library knows them all. Its load takes 38 MiB more than the client of ours, so only these users pay for it.
 */
type ForeignCredentialsReader = () => Promise<{
  readonly headers: Readonly<Record<string, string>>;
  readonly cert: string | undefined;
  readonly key: string | undefined;
}>;

async function foreignCredentialsReader(text: string, folder: string): Promise<ForeignCredentialsReader> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  config.loadFromString(text);
  config.makePathsAbsolute(folder);
  const pem = (value: unknown): string | undefined =>
    typeof value === 'string' || Buffer.isBuffer(value) ? value.toString() : undefined;
  return async () => {
    const options: Parameters<typeof config.applyToHTTPSOptions>[0] = {};
    await config.applyToHTTPSOptions(options);
    const headers = Object.entries(options.headers ?? {}).map(([name, value]) => [name, String(value)]);
    return { headers: Object.fromEntries(headers), cert: pem(options.cert), key: pem(options.key) };
  };
}

interface LoadedFile {
  readonly modifiedMs: number;
  readonly user: Fields;
  readonly cluster: Fields;
  readonly foreign: ForeignCredentialsReader | undefined;
}

function currentUserAndCluster(config: Fields): { readonly user: Fields; readonly cluster: Fields } {
  const contextName = textField(config, 'current-context');
  if (contextName === undefined) {
    throw invalid('the kubeconfig names no current-context');
  }
  const context = entryNamed(config, 'contexts', contextName, 'context');
  return {
    cluster: entryNamed(config, 'clusters', textField(context, 'cluster') ?? '', 'cluster'),
    user: entryNamed(config, 'users', textField(context, 'user') ?? '', 'user'),
  };
}

function parseConfig(file: string, text: string): Fields {
  try {
    return fieldsOf(parse(text), file);
  } catch (error) {
    throw error instanceof EsbError ? error : invalid(`${file}: ${messageOf(error)}`, error);
  }
}

async function bearerToken(user: Fields, folder: string): Promise<string | undefined> {
  const file = textField(user, 'tokenFile');
  // As in client-go, the file wins over the token written beside it.
  return file === undefined ? textField(user, 'token') : (await readText(resolve(folder, file))).trim();
}

async function loadFile(file: string, earlier: LoadedFile | undefined): Promise<LoadedFile> {
  let modifiedMs: number;
  try {
    modifiedMs = (await stat(file)).mtimeMs;
  } catch (error) {
    throw invalid(
      errnoOf(error) === 'ENOENT' ? `there is no kubeconfig ${file}` : `cannot read ${file}: ${messageOf(error)}`,
      error,
    );
  }
  if (earlier !== undefined && earlier.modifiedMs === modifiedMs) {
    return earlier;
  }
  const text = await readText(file);
  const { user, cluster } = currentUserAndCluster(parseConfig(file, text));
  const isForeign = user.exec !== undefined || user['auth-provider'] !== undefined;
  const foreign = isForeign ? await foreignCredentialsReader(text, dirname(file)) : undefined;
  return { modifiedMs, user, cluster, foreign };
}

async function connectionFromFile(file: string, { user, cluster, ...loaded }: LoadedFile): Promise<KubeConnection> {
  const folder = dirname(file);
  const server = textField(cluster, 'server');
  if (server === undefined) {
    throw invalid(`${file} names no server`);
  }
  if (textField(cluster, 'proxy-url') !== undefined) {
    throw invalid(`${file} asks for a proxy, which is not supported`);
  }
  // The author of such a file meant fewer rights than those of the user itself.
  const impersonation = ['as', 'as-uid', 'as-groups', 'as-user-extra'].find((name) => user[name] !== undefined);
  if (impersonation !== undefined) {
    throw invalid(`${file} has ${impersonation} under its user; impersonation is not supported`);
  }
  const foreign = await loaded.foreign?.();
  const token = await bearerToken(user, folder);
  const tls: TlsMaterial = {
    ca: await dataOrFile(cluster, 'certificate-authority', folder),
    cert: foreign?.cert ?? (await dataOrFile(user, 'client-certificate', folder)),
    key: foreign?.key ?? (await dataOrFile(user, 'client-key', folder)),
    servername: textField(cluster, 'tls-server-name'),
    ...(cluster['insecure-skip-tls-verify'] === true ? { rejectUnauthorized: false } : {}),
  };
  return connectionOf(server, tls, {
    ...foreign?.headers,
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
  });
}

async function connectionFromPod(
  folder: string,
  env: Readonly<Record<string, string | undefined>>,
): Promise<KubeConnection> {
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = env;
  if (host === undefined || host === '' || port === undefined || port === '') {
    throw invalid('not in a Pod (KUBERNETES_SERVICE_HOST is not set), and no kubeconfig was given');
  }
  const [ca, token] = await Promise.all([readText(`${folder}/ca.crt`), readText(`${folder}/token`)]);
  return connectionOf(
    `https://${isIPv6(host) ? `[${host}]` : host}:${port}`,
    { ca },
    { authorization: `Bearer ${token.trim()}` },
  );
}

/** Reads credentials from a kubeconfig or a Pod's service account, and again when they are old or were refused. */
export function createKubeConnectionSource(options: KubeConnectionSourceOptions): KubeConnectionSource {
  const {
    kubeconfig,
    clock = systemClock,
    refreshMs = 60_000,
    serviceAccountFolder = '/var/run/secrets/kubernetes.io/serviceaccount',
    env = process.env,
  } = options;
  let loaded: LoadedFile | undefined;
  let known: { readonly connection: KubeConnection; readonly readAt: number } | undefined;
  let reading: Promise<KubeConnection> | undefined;

  const read = async (): Promise<KubeConnection> => {
    if (kubeconfig === undefined) {
      return connectionFromPod(serviceAccountFolder, env);
    }
    const file = resolve(kubeconfig);
    loaded = await loadFile(file, loaded);
    return connectionFromFile(file, loaded);
  };

  const refresh = async (): Promise<KubeConnection> => {
    try {
      const connection = await read();
      known = { connection, readAt: clock.monotonic() };
      return connection;
    } finally {
      reading = undefined;
    }
  };

  return {
    async current() {
      if (known !== undefined && clock.monotonic() - known.readAt < refreshMs) {
        return known.connection;
      }
      reading ??= refresh();
      return reading;
    },
    invalidate() {
      known = undefined;
    },
  };
}
