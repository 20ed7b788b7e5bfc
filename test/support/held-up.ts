import { waitFor } from './wait-for.ts';

/** Waits until a function that streams is held up: as many looks, 100 ms apart, find that it has sent no more. */
export async function heldUp(what: string, sent: () => number, looks: number): Promise<void> {
  let still = 0;
  let last = -1;
  await waitFor(
    what,
    () => {
      still = sent() === last ? still + 1 : 0;
      last = sent();
      return still === looks;
    },
    { everyMs: 100 },
  );
}
