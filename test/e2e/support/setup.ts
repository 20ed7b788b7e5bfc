import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { homeAt } from '../../../local/common/home.ts';
import { instanceCgroup } from '../../../local/instance/parts.ts';
import { run } from '../../support/command.ts';
import { compareHostInventory, takeHostInventory } from '../../support/host-audit.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    home: string;
  }
}

const repository = join(import.meta.dirname, '../../..');

/**
 * One local instance for all end-to-end tests: two nodes, two gateways, two controllers. When they are through it is
 * taken down, and the host has to be as it was. `ESB_E2E_HOME` names a running instance to use instead. Beside another
 * instance they run apart from the machine: `test/support/apart.sh npx vitest run --project=e2e`.
 */
export async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env.ESB_E2E_HOME;
  if (given !== undefined) {
    project.provide('home', given);
    return async () => undefined;
  }
  // Paths of Unix sockets below it must stay under 108 bytes.
  const folder = await mkdtemp(join(tmpdir(), 'esb-e2e-'));
  const home = join(folder, 'home');
  const cgroup = instanceCgroup(homeAt(home));
  const before = await takeHostInventory({ cgroup });
  const esb = (args: readonly string[]): Promise<unknown> =>
    run(process.execPath, [join(repository, 'local/main.ts'), ...args], {
      env: { ESB_HOME: home },
      timeoutMs: 540_000,
    });
  const down = async (): Promise<void> => {
    await esb(['down']);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await esb(['up', '--nodes', '2', '--gateways', '2', '--controllers', '2', '--audit', '--no-sample']);
  } catch (error) {
    await down();
    throw error;
  }
  project.provide('home', home);
  return async () => {
    await down();
    const left = compareHostInventory(before, await takeHostInventory({ cgroup }));
    if (left.length > 0) {
      throw new Error(`the host is not as it was before the tests:\n${left.join('\n')}`);
    }
  };
}
