import type { RegistryCredentials } from '../../containerd/transfer-service.ts';

/** Names of Docker's own registry, in credentials and in requests. */
const DOCKER_HUB: ReadonlySet<string> = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

/**
 * Credentials for `host` from the contents of `.dockerconfigjson` secrets, by the kubelet's rules: an entry with a path
 * holds for the repositories below it, and parts of its host may be `*`. The longest path wins, then the first secret.
 * An unreadable secret counts as empty, as in Kubernetes.
 *
 * @param repository path within the registry, such as `team/hello`
 */
export function findCredentials(
  dockerConfigs: readonly string[],
  host: string,
  repository: string,
): RegistryCredentials | undefined {
  let best: { readonly length: number; readonly credentials: RegistryCredentials } | undefined;
  for (const [key, entry] of dockerConfigs.flatMap(entriesOf)) {
    const length = pathLengthFor(key, host, repository);
    if (length !== undefined && length > (best?.length ?? -1)) {
      const credentials = credentialsOf(entry);
      best = credentials === undefined ? best : { length, credentials };
    }
  }
  return best?.credentials;
}

/**
 * Whether an entry such as `registry.example/team` or `*.registry.example` holds for a repository: the length of its
 * path then, undefined otherwise.
 */
export function pathLengthFor(entry: string, host: string, repository: string): number | undefined {
  const { host: pattern, path } = placeOf(entry);
  return matchesHost(pattern, canonical(host)) && isBelow(repository, path) ? path.length : undefined;
}

function entriesOf(text: string): readonly (readonly [string, Readonly<Record<string, unknown>>])[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return [];
  }
  const { auths } = isRecord(parsed) ? parsed : {};
  return Object.entries(isRecord(auths) ? auths : {}).flatMap(([key, entry]) =>
    isRecord(entry) ? [[key, entry] as const] : [],
  );
}

/** Host and path of an entry: `https://index.docker.io/v1/` holds for all of its host, `registry.example/team` below. */
function placeOf(key: string): { readonly host: string; readonly path: string } {
  const [host = '', ...path] = key.replace(/^[a-z]+:\/\//i, '').split('/');
  return {
    host: canonical(host),
    path: path
      .join('/')
      .replace(/^v[12](?:\/|$)/, '')
      .replace(/\/+$/, ''),
  };
}

/** `*` matches any text within one part between two dots. Ports have to be equal. */
function matchesHost(pattern: string, host: string): boolean {
  const [name, port] = splitPort(pattern);
  const [otherName, otherPort] = splitPort(host);
  const parts = name.split('.');
  const otherParts = otherName.split('.');
  return (
    port === otherPort &&
    parts.length === otherParts.length &&
    parts.every((part, index) => matchesPart(part, otherParts[index] ?? ''))
  );
}

function matchesPart(pattern: string, part: string): boolean {
  const [first = '', ...rest] = pattern.split('*');
  const last = rest.pop();
  if (last === undefined) {
    return pattern === part;
  }
  if (!part.startsWith(first) || !part.endsWith(last) || part.length < first.length + last.length) {
    return false;
  }
  let at = first.length;
  for (const piece of rest) {
    const found = part.indexOf(piece, at);
    if (found < 0 || found + piece.length > part.length - last.length) {
      return false;
    }
    at = found + piece.length;
  }
  return true;
}

function splitPort(host: string): readonly [string, string] {
  const [, name = host, port = ''] = /^(.*?)(?::(\d+))?$/.exec(host) ?? [];
  return [name, port];
}

function isBelow(repository: string, path: string): boolean {
  return path === '' || repository === path || repository.startsWith(`${path}/`);
}

function canonical(host: string): string {
  const lower = host.toLowerCase();
  return DOCKER_HUB.has(lower) ? 'docker.io' : lower;
}

function credentialsOf(entry: Readonly<Record<string, unknown>>): RegistryCredentials | undefined {
  const { identitytoken, auth, username, password } = entry;
  if (typeof identitytoken === 'string' && identitytoken !== '') {
    return { identityToken: identitytoken };
  }
  if (typeof username === 'string' && username !== '' && typeof password === 'string') {
    return { username, password };
  }
  if (typeof auth !== 'string') {
    return undefined;
  }
  const decoded = Buffer.from(auth, 'base64').toString('utf8');
  const colon = decoded.indexOf(':');
  return colon <= 0
    ? undefined
    : // Docker pads some passwords with zero bytes.
      { username: decoded.slice(0, colon), password: decoded.slice(colon + 1).replaceAll('\0', '') };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
