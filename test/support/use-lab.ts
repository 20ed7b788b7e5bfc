import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import type { ContainerRuntime } from '../../src/runtime/contract/runtime.ts';
import { destroyAll, type Lab, type LabRuntimeOptions, startLab } from './lab.ts';

/**
 * Gives the tests of a `describe` one lab with one runtime. After each test all workers are removed, and nothing of
 * them may be left.
 *
 * @param take receives both before the first test
 */
export function useLab(take: (lab: Lab, runtime: ContainerRuntime) => void, options: LabRuntimeOptions = {}): void {
  let lab: Lab | undefined;
  let runtime: Awaited<ReturnType<Lab['runtime']>> | undefined;
  beforeAll(async () => {
    lab = await startLab();
    runtime = await lab.runtime(options);
    take(lab, runtime);
  });
  afterAll(async () => {
    await lab?.close();
  });
  afterEach(async () => {
    if (lab !== undefined && runtime !== undefined) {
      await destroyAll(runtime);
      expect(await lab.leftovers()).toEqual([]);
    }
  });
}
