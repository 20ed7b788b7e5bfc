import type { LambdaQuota, LambdaQuotaStatus } from '../../api/lambda-quota.ts';
import { parseQuantity, quantityToMilli } from '../../api/quantity.ts';
import type { Usage } from '../scheduling/assignment-cache.ts';

/** The bounds of one LambdaQuota; what is absent is not bounded. */
export interface Bounds {
  readonly name: string;
  readonly hard: Readonly<Partial<Usage>>;
}

/** The first bound that does not hold. */
export interface Excess {
  readonly quota: string;
  /** In words: what is asked for, used and allowed. */
  readonly text: string;
}

const MIB = 2 ** 20;

export function boundsOf({ metadata, spec }: LambdaQuota): Bounds {
  const { cpu, memory, workers } = spec.hard;
  const bytes = memory === undefined ? undefined : parseQuantity(memory);
  const milliCPU = quantityToMilli(cpu);
  return {
    name: metadata.name,
    hard: {
      ...(bytes === undefined ? {} : { memoryMiB: Math.floor(bytes / MIB) }),
      ...(milliCPU === undefined ? {} : { milliCPU }),
      ...(workers === undefined ? {} : { workers }),
    },
  };
}

export function plus(a: Usage, b: Usage): Usage {
  return { memoryMiB: a.memoryMiB + b.memoryMiB, milliCPU: a.milliCPU + b.milliCPU, workers: a.workers + b.workers };
}

const resources = [
  { of: 'memoryMiB', name: 'memory', text: (amount: number) => `${amount}Mi` },
  { of: 'milliCPU', name: 'cpu', text: (amount: number) => `${amount}m` },
  { of: 'workers', name: 'workers', text: String },
] as const satisfies readonly { of: keyof Usage; name: string; text: (amount: number) => string }[];

/**
 * The bound that would not hold any more. A resource of which no more is asked for is not judged, so that a lowered bound
 * stands in the way of nothing but growth.
 */
export function excessOf(bounds: readonly Bounds[], used: Usage, asked: Usage): Excess | undefined {
  for (const { name: quota, hard } of bounds) {
    for (const { of, name, text } of resources) {
      const most = hard[of];
      if (most !== undefined && asked[of] > 0 && used[of] + asked[of] > most) {
        const words = `requested ${name} ${text(asked[of])}, used ${text(used[of])}, hard ${text(most)}`;
        return { quota, text: `LambdaQuota ${quota} would be exceeded: ${words}` };
      }
    }
  }
  return undefined;
}

/** The status of a LambdaQuota: of the resources that it bounds alone, as with ResourceQuota. */
export function statusOf(quota: LambdaQuota, used: Usage): LambdaQuotaStatus {
  const { hard } = boundsOf(quota);
  const told = (amounts: Readonly<Partial<Usage>>) =>
    Object.fromEntries(
      resources.flatMap(({ of, name, text }) => {
        const amount = amounts[of];
        return hard[of] === undefined || amount === undefined
          ? []
          : [[name, of === 'workers' ? amount : text(amount)] as const];
      }),
    );
  const { generation } = quota.metadata;
  return {
    ...(generation === undefined ? {} : { observedGeneration: generation }),
    hard: told(hard),
    used: told(used),
  };
}
