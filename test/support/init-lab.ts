import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { builtProgram, ensureInitProgram, initSource } from '../../local/tools/built-program.ts';
import { ensureNeeds } from '../../local/tools/debian-packages.ts';
import { createProgress, type Progress } from '../../src/cli/progress.ts';
import { run } from './command.ts';
import { InitAgent } from './init-agent.ts';
import type { Lab } from './lab.ts';
import { waitFor } from './wait-for.ts';

/** A compiler for another processor, and an emulator of that. */
const arm64Needs = [
  { program: 'aarch64-linux-gnu-gcc', debianPackage: 'gcc-aarch64-linux-gnu', purpose: 'building the init for arm64' },
  {
    file: '/usr/aarch64-linux-gnu/lib/libc.a',
    debianPackage: 'libc6-dev-arm64-cross',
    purpose: 'building the init for arm64',
  },
  { program: 'qemu-aarch64', debianPackage: 'qemu-user', purpose: 'running the init for arm64' },
];

/** Installs the programs that {@link arm64InitProgram} needs, and that run it: from the network. */
export function ensureArm64Tools(progress: Progress): Promise<void> {
  return ensureNeeds(arm64Needs, progress);
}

/** The init for another processor, which `qemu-aarch64` runs. */
export function arm64InitProgram(): Promise<string> {
  return builtProgram('init-arm64', initSource, (program) =>
    run('make', [`PROGRAM=${program}`, 'CC=aarch64-linux-gnu-gcc'], { cwd: initSource }),
  );
}

/** The init as workers have it. */
export function initProgram(): Promise<string> {
  return ensureInitProgram({ progress: createProgress({ write: () => undefined }) });
}

/**
 * The init with checks of memory and of undefined behaviour, which end it with words on its error stream. No breach of a
 * bound ends it.
 */
export function checkedInitProgram(): Promise<string> {
  return checkedProgram('init-checked', '-DMAX_BREACHES=1000000');
}

/** Init with checks, which ends by breaches as that of workers does. */
export function strictInitProgram(): Promise<string> {
  return checkedProgram('init-strict', '');
}

function checkedProgram(name: string, bounds: string): Promise<string> {
  // Slow requests are given up sooner, and fewer pieces are borne, so that a test can wait for that. The checks make each
  // piece slow: beside other tests hardly more than 1,000 may come in a second.
  const sooner = '-DHEAD_PATIENCE_MS=2000 -DBODY_PATIENCE_MS=1000 -DMAX_PIECES=20000 -DPIECES_PER_SECOND=1000';
  const checks = `-O1 -g ${sooner} ${bounds} -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all`;
  return builtProgram(name, initSource, (program) =>
    run('make', [`PROGRAM=${program}`, `CFLAGS=${checks}`, `LDFLAGS=${checks}`], { cwd: initSource }),
  );
}

export interface InitWorkerOptions {
  readonly image: string;
  /** The runtime. */
  readonly argv: readonly string[];
  /** Flags of the init. */
  readonly flags?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Files that the container sees in `/fixture`: name → content. */
  readonly files?: Readonly<Record<string, string | Buffer>>;
  /** Files of `/opt/extensions`: name → content. Default: the image's. */
  readonly extensions?: Readonly<Record<string, string>>;
  /** Further flags of `ctr run`. */
  readonly runFlags?: readonly string[];
}

/** A container of real containerd and runc whose process 1 is the init, with an agent of the test. */
export interface InitWorker {
  readonly id: string;
  readonly agent: InitAgent;
  /** Host's id of the init's process. */
  readonly pid: number;
  /** Output of the container so far. */
  log(): Promise<string>;
  /** Runs a program in the container. */
  exec(...argv: readonly string[]): Promise<string>;
  /** Processes of the container, by host's id and command line; the init is not among them. */
  processes(): Promise<ReadonlyMap<number, string>>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Whether the container's task has ended. */
  ended(): Promise<boolean>;
}

let serial = 0;

function mount(from: string, to: string): readonly string[] {
  return ['--mount', `type=bind,src=${from},dst=${to},options=rbind:ro`];
}

/** Starts a worker under the init in the lab's containerd. The lab removes it. */
export async function startInitWorker(lab: Lab, options: InitWorkerOptions): Promise<InitWorker> {
  const id = `init-${process.pid}-${++serial}`;
  const folder = join(lab.folder, id);
  await mkdir(folder);
  const mounts: string[] = [];
  for (const [path, files] of Object.entries({ '/fixture': options.files, '/opt/extensions': options.extensions })) {
    const from = join(folder, basename(path));
    if (files !== undefined) {
      await mkdir(from);
      mounts.push(...mount(from, path));
    }
    for (const [file, content] of Object.entries(files ?? {})) {
      await writeFile(join(from, file), content, { mode: 0o755 });
    }
  }
  const agent = new InitAgent(join(folder, 'agent.sock'));
  await agent.listen();
  const log = join(folder, 'log');
  await lab.ctr(
    'run',
    '--detach',
    ...['--log-uri', `file://${log}`, '--cgroup', `${lab.cgroupParent}/${id}`],
    ...mount(await initProgram(), '/.esb/init'),
    ...mount(folder, '/.esb/run'),
    ...mounts,
    ...(options.runFlags ?? []),
    ...Object.entries(options.env ?? {}).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
    options.image,
    id,
    ...['/.esb/init', '--socket', '/.esb/run/agent.sock', ...(options.flags ?? []), '--', ...options.argv],
  );
  const tasks = async (): Promise<string[] | undefined> =>
    (await lab.ctr('tasks', 'ls'))
      .split('\n')
      .map((line) => line.split(/\s+/))
      .find(([name]) => name === id);
  const pid = Number((await tasks())?.[1]);
  let execs = 0;
  return {
    id,
    agent,
    pid,
    log: () => readFile(log, 'utf8').catch(() => ''),
    exec: (...argv) => lab.ctr('tasks', 'exec', '--exec-id', `exec-${++execs}`, id, ...argv),
    async processes() {
      const lines = (await lab.ctr('tasks', 'ps', id)).split('\n').slice(1);
      const pids = lines.map((line) => Number(line.split(/\s+/)[0])).filter((one) => one > 0 && one !== pid);
      const named = await Promise.all(
        pids.map(async (one) => {
          const command = await readFile(`/proc/${one}/cmdline`, 'utf8').catch(() => '');
          return [one, command.replaceAll('\0', ' ').trim()] as const;
        }),
      );
      return new Map(named);
    },
    async pause() {
      // On a busy machine runc gives up and thaws (its `unable to freeze`); the agent pauses again then, as here.
      const end = await waitFor('the pause', () =>
        lab.ctr('tasks', 'pause', id).then(
          () => 'Paused' as const,
          (error: Error) => (error.message.includes('unable to freeze') ? undefined : error),
        ),
      );
      if (end !== 'Paused') {
        throw end;
      }
    },
    async resume() {
      await lab.ctr('tasks', 'resume', id);
    },
    ended: async () => (await tasks())?.[2] === 'STOPPED',
  };
}

/** Puts an image that is a folder in the layout of OCI into the lab's containerd. */
export async function importLayout(lab: Lab, layout: string, name: string): Promise<string> {
  const tar = join(lab.folder, `${basename(layout)}.tar`);
  await run('tar', ['-C', layout, '-cf', tar, '.']);
  await lab.ctr('images', 'import', '--index-name', name, tar);
  await rm(tar);
  await waitFor('the image', async () => (await lab.ctr('images', 'ls', '-q')).includes(name));
  return name;
}
