import { expect, it } from 'vitest';
import { systemClock } from '../../../src/common/clock.ts';
import type { InitRequest } from '../../../src/init/contract.ts';
import { orderFrame } from '../../../src/init/order.ts';

it("tells when a call is to begin by the kernel's clock", () => {
  const request = { requestId: 'a', payload: Buffer.from('{}'), timeoutMs: 3_000, boundMs: 10_000 };
  const frame = orderFrame(request as unknown as InitRequest, systemClock).toString();
  const told = (name: string): number => Number(new RegExp(`^${name}=(\\d+)$`, 'm').exec(frame)?.[1]);
  const kernelMs = Number(process.hrtime.bigint()) / 1e6;
  expect(told('beginByMs') - kernelMs).toBeCloseTo(6_000, -2);
});
