import { access, readFile, statfs } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import type { CommandContext } from '../../src/cli/command-context.ts';
import { exitCodeOf, type Finding, formatFindings } from '../../src/cli/doctor/finding.ts';
import { messageOf } from '../../src/common/errors.ts';
import { runCommand } from '../common/command.ts';
import { openHome } from '../common/home.ts';
import { openInstance } from '../instance/instance.ts';
import { otherInstances } from '../instance/machine.ts';
import {
  imageBuildNeeds,
  missingNeeds,
  runcBuildNeeds,
  runningNeeds,
  type SystemNeed,
} from '../tools/debian-packages.ts';
import { toolSetFolder } from '../tools/tool-cache.ts';
import { toolFamilies } from '../tools/tool-catalog.ts';

export interface DoctorOptions {
  readonly json: boolean;
}

const NEEDED_DISK_BYTES = 8 * 2 ** 30;

/**
 * Looks for faults that keep a local instance from working on this machine.
 *
 * @returns the exit code: 1 when there is a problem
 */
export async function runDoctor(options: DoctorOptions, context: CommandContext): Promise<number> {
  const findings: Finding[] = [];
  for (const check of checks) {
    try {
      findings.push(...(await check(context.signal)));
    } catch (error) {
      findings.push({ what: check.name, level: 'problem', message: messageOf(error) });
    }
  }
  context.write(formatFindings(findings, options.json));
  return exitCodeOf(findings);
}

type Check = (signal: AbortSignal) => Promise<Finding[]>;

const checks: readonly Check[] = [system, packages, go, tools, cgroups, disk, parts];

function finding(what: string, isWell: boolean, well: string, ill: string): Finding {
  return { what, level: isWell ? 'ok' : 'problem', message: isWell ? well : ill };
}

async function system(): Promise<Finding[]> {
  const root = process.getuid?.() === 0;
  return [
    finding(
      'operating system',
      process.platform === 'linux',
      `Linux, Node.js ${process.versions.node}`,
      `${process.platform}: a local instance needs Linux`,
    ),
    finding('user', root, 'root', 'a local instance needs root: sudo npm run up'),
  ];
}

async function packages(): Promise<Finding[]> {
  const of = async (what: string, needs: readonly SystemNeed[], level: Finding['level']): Promise<Finding> => {
    const missing = await missingNeeds(needs);
    const names = [...new Set(missing.map((need) => need.debianPackage))].join(' ');
    return missing.length === 0
      ? { what, level: 'ok', message: 'all there' }
      : { what, level, message: `missing: apt-get install ${names} (done by npm run up when root)` };
  };
  return [
    await of('programs of the system', runningNeeds, 'warning'),
    await of('what building runc takes', runcBuildNeeds, 'warning'),
    await of('what the sample images take', imageBuildNeeds, 'warning'),
  ];
}

async function go(signal: AbortSignal): Promise<Finding[]> {
  try {
    const { stdout } = await runCommand('go', ['version'], { signal });
    return [{ what: 'Go', level: 'ok', message: stdout.trim() }];
  } catch {
    return [
      {
        what: 'Go',
        level: 'problem',
        message: `not on PATH (${(process.env.PATH ?? '').split(delimiter).length} folders): install it from https://go.dev/dl/`,
      },
    ];
  }
}

async function tools(): Promise<Finding[]> {
  const folder = toolSetFolder();
  const missing: string[] = [];
  for (const { name } of toolFamilies.flatMap((family) => family.programs)) {
    if (!(await exists(join(folder, name)))) {
      missing.push(name);
    }
  }
  return [
    missing.length === 0
      ? { what: 'third-party programs', level: 'ok', message: folder }
      : {
          what: 'third-party programs',
          level: 'warning',
          message: `not built yet: ${missing.join(', ')}; npm run up builds them, some ten minutes the first time`,
        },
  ];
}

async function cgroups(): Promise<Finding[]> {
  const mounts = await readFile('/proc/mounts', 'utf8');
  const second = /^\S+ \/sys\/fs\/cgroup cgroup2 /m.test(mounts);
  const freezer = /^\S+ \S*freezer\S* cgroup /m.test(mounts);
  return [
    finding(
      'control groups',
      second || freezer,
      second ? 'version 2' : 'version 1, with the freezer',
      'neither version 2 nor the freezer of version 1 is mounted: workers cannot be paused',
    ),
  ];
}

async function disk(): Promise<Finding[]> {
  const { bavail, bsize } = await statfs(process.cwd());
  const free = bavail * bsize;
  return [
    {
      what: 'disk',
      level: free >= NEEDED_DISK_BYTES ? 'ok' : 'warning',
      message: `${Math.round(free / 2 ** 30)} GiB free; the first run takes up to ${NEEDED_DISK_BYTES / 2 ** 30}`,
    },
  ];
}

async function parts(signal: AbortSignal): Promise<Finding[]> {
  const home = openHome();
  const others = (await otherInstances(home)).map(
    (other): Finding => ({
      what: 'another instance',
      level: 'problem',
      message: `runs in ${other}; there can be only one: ESB_HOME=${other} npm run down`,
    }),
  );
  const instance = await openInstance(home);
  if (instance === undefined) {
    return [...others, { what: 'local instance', level: 'ok', message: `none in ${home.root}` }];
  }
  const status = await instance.supervisor.status({ signal });
  return [
    ...others,
    ...status.parts.map(
      ({ name, health }): Finding => ({
        what: name,
        level: health === 'healthy' ? 'ok' : 'problem',
        message: health === 'healthy' ? health : `${health}; see ${join(home.logs, `${name}.log`)}`,
      }),
    ),
  ];
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
