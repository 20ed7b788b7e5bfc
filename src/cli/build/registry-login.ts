import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { type CallOptions, withDeadline } from '../../common/deadline.ts';
import { EsbError, messageOf, undefinedIfNoFile } from '../../common/errors.ts';
import { type CommandRunner, systemCommandRunner } from '../../common/exec/command-runner.ts';
import type { RegistryLogin } from '../../oci/registry-token.ts';
import { findCredentials } from '../../runtime/images/registry-credentials.ts';

/** The file that `docker login` and its kin write, as far as it is read here beside `auths`. */
interface LoginFile {
  readonly credHelpers?: Readonly<Record<string, string>>;
  readonly credsStore?: string;
}

const DEADLINE_MS = 30_000;
/** User name by which a helper says that its secret is a token. */
const TOKEN_USER = '<token>';
const DOCKER_HUB = 'docker.io';
const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';

/**
 * The user's login of a registry, as Docker keeps it: in `config.json` below `DOCKER_CONFIG` or `~/.docker`, or with
 * the helper that it names. Undefined where there is none.
 *
 * @throws {EsbError} `InvalidArgument` for a file that cannot be read, `CommandFailed` for a helper that cannot be run
 */
export async function findLogin(
  registry: string,
  repository: string,
  env: NodeJS.ProcessEnv,
  options: CallOptions & { readonly runner?: CommandRunner } = {},
): Promise<RegistryLogin | undefined> {
  const file = join(env.DOCKER_CONFIG ?? join(env.HOME ?? homedir(), '.docker'), 'config.json');
  const text = await undefinedIfNoFile(readFile(file, 'utf8'));
  if (text === undefined) {
    return undefined;
  }
  let config: LoginFile;
  try {
    config = JSON.parse(text) as LoginFile;
  } catch (error) {
    throw new EsbError(`${file} is not JSON: ${messageOf(error)}`, { code: 'InvalidArgument', cause: error });
  }
  const key = registry === DOCKER_HUB ? DOCKER_HUB_KEY : registry;
  const helper = config.credHelpers?.[key] ?? config.credsStore;
  return (
    (helper === undefined || helper === '' ? undefined : await askHelper(helper, key, options)) ??
    findCredentials([text], registry, repository)
  );
}

/** Asks a credential helper of Docker; undefined where it has none. */
async function askHelper(
  helper: string,
  registry: string,
  { deadlineMs = DEADLINE_MS, runner = systemCommandRunner, signal }: CallOptions & { readonly runner?: CommandRunner },
): Promise<RegistryLogin | undefined> {
  const program = `docker-credential-${helper}`;
  const request = { program, args: ['get'], input: registry };
  try {
    const { code, stdout } = await withDeadline(program, deadlineMs, signal, (ended) =>
      runner.run({ ...request, signal: ended }),
    );
    if (code !== 0) {
      // A helper without credentials fails, and says so in words of its own.
      return undefined;
    }
    const { Secret, Username } = JSON.parse(stdout) as { readonly Username?: string; readonly Secret?: string };
    if (Username === undefined || Secret === undefined || Secret === '') {
      return undefined;
    }
    return Username === TOKEN_USER ? { identityToken: Secret } : { username: Username, password: Secret };
  } catch (error) {
    if (error instanceof EsbError) {
      throw error;
    }
    throw new EsbError(`${program}, which Docker's configuration names, cannot be run: ${messageOf(error)}`, {
      code: 'CommandFailed',
      cause: error,
    });
  }
}
