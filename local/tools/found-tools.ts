import { constants } from 'node:fs';
import { access, realpath } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { messageOf } from '../../src/common/errors.ts';
import { runCommand } from '../common/command.ts';
import type { ToolFamily } from './tool-catalog.ts';

/** A program of the user's own that makes a build needless. */
export interface FoundTool {
  readonly name: string;
  readonly path: string;
  readonly version: string;
}

/** The signs of a program of the user's. */
interface ToolRequirement {
  readonly versionArgs: readonly string[];
  readonly pattern: RegExp;
  /** Lowest major and minor version that will do. */
  readonly atLeast: readonly [number, number];
  /** Part of the envtest assets that KUBEBUILDER_ASSETS names. */
  readonly inEnvtest: boolean;
}

/**
 * Selectable fields of custom resources are stable since Kubernetes 1.32; kubectl is supported within one minor version
 * of the server, which is 1.37 when built here; containerd's Transfer service since 2.0; runc's cgroup v2 freezer is
 * sound since 1.1. Programs that are not here are always built: plugins, emulator and registry tools take seconds, and
 * their versions cannot be asked for reliably.
 */
const requirements: ReadonlyMap<string, ToolRequirement> = new Map([
  ['kube-apiserver', { versionArgs: ['--version'], pattern: /v(\d+)\.(\d+)\.\d+/, atLeast: [1, 32], inEnvtest: true }],
  [
    'kubectl',
    {
      versionArgs: ['version', '--client', '-o', 'json'],
      pattern: /"gitVersion": "v(\d+)\.(\d+)\.\d+/,
      atLeast: [1, 36],
      inEnvtest: true,
    },
  ],
  [
    'etcd',
    {
      versionArgs: ['--version'],
      pattern: /etcd Version: (\d+)\.(\d+)\.\d+/,
      atLeast: [3, 5],
      inEnvtest: true,
    },
  ],
  [
    'containerd',
    {
      versionArgs: ['--version'],
      pattern: /containerd\S* v?(\d+)\.(\d+)\.\d+/,
      atLeast: [2, 0],
      inEnvtest: false,
    },
  ],
  [
    'containerd-shim-runc-v2',
    { versionArgs: ['-v'], pattern: /Version:\s+v?(\d+)\.(\d+)\.\d+/, atLeast: [2, 0], inEnvtest: false },
  ],
  ['ctr', { versionArgs: ['--version'], pattern: /ctr\S* v?(\d+)\.(\d+)\.\d+/, atLeast: [2, 0], inEnvtest: false }],
  ['runc', { versionArgs: ['--version'], pattern: /runc version (\d+)\.(\d+)/, atLeast: [1, 1], inEnvtest: false }],
]);

/** Programs that work only together: all from one place or none. */
const inseparable: ReadonlyMap<string, readonly string[]> = new Map([
  ['containerd', ['containerd', 'containerd-shim-runc-v2', 'ctr']],
]);

const VERSION_DEADLINE_MS = 10_000;

export interface FindToolsOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal | undefined;
  /** Called with a program that was found and not taken. */
  readonly onRejected?: (path: string, why: string) => void;
}

/**
 * Programs of `family` that the user has: first in the folder `KUBEBUILDER_ASSETS`, then on PATH. A program that does
 * not report a sufficient version is passed over.
 */
export async function findTools(family: ToolFamily, options: FindToolsOptions = {}): Promise<FoundTool[]> {
  const env = options.env ?? process.env;
  const found: FoundTool[] = [];
  for (const { name } of family.exact === true ? [] : family.programs) {
    const requirement = requirements.get(name);
    if (requirement !== undefined) {
      const tool = await findTool(name, requirement, env, options);
      if (tool !== undefined) {
        found.push(tool);
      }
    }
  }
  const together = inseparable.get(family.name);
  if (together === undefined) {
    return found;
  }
  const folders = new Set(found.map((tool) => dirname(tool.path)));
  return found.length === together.length && folders.size === 1 ? found : [];
}

async function findTool(
  name: string,
  requirement: ToolRequirement,
  env: NodeJS.ProcessEnv,
  options: FindToolsOptions,
): Promise<FoundTool | undefined> {
  const seen = new Set<string>();
  for (const folder of candidateFolders(requirement, env)) {
    const path = join(folder, name);
    if (!(await isExecutable(path))) {
      continue;
    }
    // /bin is a link to /usr/bin on most systems.
    const real = await realpath(path);
    if (seen.has(real)) {
      continue;
    }
    seen.add(real);
    const version = await versionOf(path, requirement, options.signal);
    if (version.ok) {
      return { name, path: real, version: version.text };
    }
    options.onRejected?.(path, version.why);
  }
  return undefined;
}

function candidateFolders(requirement: ToolRequirement, env: NodeJS.ProcessEnv): string[] {
  const assets = requirement.inEnvtest ? [env.KUBEBUILDER_ASSETS ?? ''] : [];
  // `.esb/env` puts programs on PATH that an earlier clone may have built.
  const ours = env.ESB_HOME === undefined ? undefined : join(env.ESB_HOME, 'bin');
  return [...assets, ...(env.PATH ?? '').split(delimiter)].filter((each) => each.startsWith('/') && each !== ours);
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

type VersionAnswer = { readonly ok: true; readonly text: string } | { readonly ok: false; readonly why: string };

async function versionOf(
  path: string,
  requirement: ToolRequirement,
  signal: AbortSignal | undefined,
): Promise<VersionAnswer> {
  try {
    const result = await runCommand(path, requirement.versionArgs, {
      deadlineMs: VERSION_DEADLINE_MS,
      signal,
    });
    return judgeVersion(`${result.stdout}\n${result.stderr}`, requirement);
  } catch (error) {
    return { ok: false, why: messageOf(error).split('\n', 1)[0] ?? 'does not run' };
  }
}

function judgeVersion(answer: string, requirement: ToolRequirement): VersionAnswer {
  const match = requirement.pattern.exec(answer);
  if (match === null) {
    return { ok: false, why: 'does not tell its version' };
  }
  const [major, minor] = [Number(match[1]), Number(match[2])];
  const [wantedMajor, wantedMinor] = requirement.atLeast;
  if (major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)) {
    return { ok: true, text: `${major}.${minor}` };
  }
  return { ok: false, why: `is version ${major}.${minor}, needed is ${wantedMajor}.${wantedMinor}` };
}
