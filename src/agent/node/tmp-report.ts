import type { LambdaNodeStatus } from '../../api/lambda-node.ts';
import type { TmpStorage } from '../../runtime/contract/tmp-storage.ts';

type Report = NonNullable<LambdaNodeStatus['ephemeralStorage']>;

const MAX_MESSAGE_LENGTH = 1_024;
/** Steps of the capacity: logs and images fill and empty the disk all the time, and each change shown is a write. */
const STEPS = 32;
const LEAST_STEP_MIB = 256;

/**
 * The `/tmp` of a node as the LambdaNode shows it. A capacity that was told stays while it is about right.
 *
 * @param storage undefined until the medium was tried: then what was told before still holds
 */
export function tmpReport(storage: TmpStorage | undefined, told: Report | undefined): Report | undefined {
  if (storage === undefined) {
    return told;
  }
  if (storage.medium === 'Tmpfs') {
    return { medium: storage.medium, message: storage.message.slice(0, MAX_MESSAGE_LENGTH) };
  }
  const { allocatedMiB, medium } = storage;
  const step = Math.max(LEAST_STEP_MIB, Math.floor((told?.capacityMiB ?? 0) / STEPS));
  const isRight = told?.capacityMiB !== undefined && Math.abs(told.capacityMiB - storage.capacityMiB) < step;
  return { medium, capacityMiB: isRight ? told.capacityMiB : storage.capacityMiB, allocatedMiB };
}
