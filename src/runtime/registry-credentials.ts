import type { RegistryCredentials } from '../containerd/transfer-service.ts';

/** Names under which Docker keeps the credentials of its own registry, which is reached by yet another one. */
const DOCKER_HUB: ReadonlySet<string> = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

/**
 * Credentials for `host` from the contents of `.dockerconfigjson` secrets, the first that has some. What cannot be
 * read counts as empty, as in Kubernetes.
 */
export function findCredentials(
  dockerConfigs: readonly string[],
  host: string,
): RegistryCredentials | undefined {
  for (const text of dockerConfigs) {
    for (const [key, entry] of entriesOf(text)) {
      const found = hostOf(key) === canonical(host) ? credentialsOf(entry) : undefined;
      if (found !== undefined) {
        return found;
      }
    }
  }
  return undefined;
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

/** `https://index.docker.io/v1/` and `registry.example/team` alike are kept for their host. */
function hostOf(key: string): string {
  const withoutScheme = key.replace(/^[a-z]+:\/\//i, '');
  return canonical(withoutScheme.split('/')[0] ?? '');
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
    : // Docker pads some of them with zero bytes.
      { username: decoded.slice(0, colon), password: decoded.slice(colon + 1).replaceAll('\0', '') };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
