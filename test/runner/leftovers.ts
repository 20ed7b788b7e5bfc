import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Everything that a run of the tests has left on the machine, one line each: entries of its temporary folder, mounts
 * below that, control groups and processes with its name. Other runs on the machine are told apart by the name.
 *
 * @param run value of `ESB_TEST_RUN`, which every process of the run inherits and control groups of labs bear
 */
export function leftovers(run: string, folder: string): readonly string[] {
  return [
    ...entries(folder).map((name) => `folder or file ${join(folder, name)}`),
    ...mountsBelow(folder).map((point) => `mount ${point}`),
    ...controlGroups(run).map((path) => `control group ${path}`),
    ...processes(run).map((process) => `process ${process}`),
  ];
}

function mountsBelow(folder: string): readonly string[] {
  return read('/proc/self/mountinfo')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((point) => point.startsWith(`${folder}/`));
}

function controlGroups(run: string): readonly string[] {
  const root = '/sys/fs/cgroup';
  return ['', ...entries(root)].flatMap((hierarchy) =>
    entries(join(root, hierarchy))
      .filter((name) => name.startsWith('esb') && name.includes(run))
      .map((name) => join(root, hierarchy, name)),
  );
}

function processes(run: string): readonly string[] {
  return entries('/proc')
    .filter((pid) => /^\d+$/.test(pid) && !ownLine().has(pid))
    .filter((pid) => read(`/proc/${pid}/environ`).split('\0').includes(`ESB_TEST_RUN=${run}`))
    .map((pid) => `${pid} ${read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').slice(0, 120)}`);
}

/** This process and its ancestors. */
function ownLine(): ReadonlySet<string> {
  const line = new Set<string>();
  for (let pid = String(process.pid); pid !== '0' && pid !== '' && !line.has(pid); ) {
    line.add(pid);
    pid = /^PPid:\s*(\d+)$/m.exec(read(`/proc/${pid}/status`))?.[1] ?? '';
  }
  return line;
}

function entries(folder: string): readonly string[] {
  try {
    return readdirSync(folder).toSorted();
  } catch {
    return [];
  }
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
