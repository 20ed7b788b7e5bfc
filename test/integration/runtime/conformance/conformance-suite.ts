import { afterAll, afterEach, beforeAll, describe } from 'vitest';
import type {
  ContainerRuntime,
  EnsureRequest,
  WorkerInfo,
  WorkerShape,
} from '../../../../src/runtime/contract/runtime.ts';
import { ensureRequest } from '../../../support/lab.ts';
import type { RuntimeLab } from './runtime-lab.ts';

/** Tools of a test of the contract. */
export interface Bench {
  readonly lab: RuntimeLab;
  readonly runtime: ContainerRuntime;
  request(name: string, shape?: Partial<WorkerShape>, request?: Partial<EnsureRequest>): EnsureRequest;
  call(info: WorkerInfo, payload?: unknown): Promise<unknown>;
  /** Results of attempts of the worker from inside: `ok` with details, or the error. */
  tries(info: WorkerInfo, ...lines: readonly string[]): Promise<Record<string, string>>;
  state(containerId: string): Promise<string | undefined>;
}

/** Points of the contract that hold for every runtime. */
export type ConformanceTests = (bench: () => Bench) => void;

/** Runs points of the contract against one kind of engine, a new one for each group; after each nothing may be left. */
export function describeConformance(
  what: string,
  start: () => Promise<RuntimeLab>,
  groups: Readonly<Record<string, ConformanceTests>>,
): void {
  describe.each(Object.entries(groups))(`${what}: %s`, (_, tests) => {
    let bench: Bench | undefined;
    let lab: RuntimeLab | undefined;
    beforeAll(async () => {
      lab = await start();
      bench = benchOf(lab, await lab.runtime());
    });
    afterAll(async () => {
      await lab?.close();
    });
    afterEach(async ({ expect }) => {
      const { runtime } = required();
      for (const { containerId } of await runtime.list()) {
        await runtime.destroy(containerId, { graceSeconds: 0 });
      }
      expect(await lab?.leftovers()).toEqual([]);
    });
    const required = (): Bench => {
      if (bench === undefined) {
        throw new Error('the lab has not been started');
      }
      return bench;
    };
    tests(required);
  });
}

function benchOf(lab: RuntimeLab, runtime: ContainerRuntime): Bench {
  return {
    lab,
    runtime,
    request: (name, shape, request) => ensureRequest(lab, name, shape, request),
    call: (info, payload = {}) => lab.call(info.address, payload),
    async tries(info, ...lines) {
      const answer = await lab.call(info.address, { try: lines }, 20_000);
      return (answer as { readonly tried: Record<string, string> }).tried;
    },
    state: async (containerId) => (await runtime.inspect(containerId))?.task.kind,
  };
}
