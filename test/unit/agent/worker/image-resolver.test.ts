import { expect, it, onTestFinished } from 'vitest';
import { ImageResolver } from '../../../../src/agent/worker/image-resolver.ts';
import { EsbError } from '../../../../src/common/errors.ts';
import { desiredFixture } from '../../../support/fleet-lab.ts';

it('images of a namespace do not wait for those of another whose registry does not answer', async () => {
  const hanging: (() => void)[] = [];
  const resolver = new ImageResolver({
    runtime: {
      resolveImage: async ({ reference }) => {
        if (reference.startsWith('hole.example/')) {
          await new Promise<void>((resolve) => hanging.push(resolve));
          throw new EsbError('no answer', { code: 'RegistryUnreachable' });
        }
      },
    },
    secrets: {} as never,
  });
  onTestFinished(async () => {
    const ended = resolver.stop();
    for (const end of hanging) {
      end();
    }
    await ended;
  });
  const identity = (namespace: string, name: string) => ({ ...desiredFixture({ name }).identity, namespace });
  for (let number = 0; number < 20; number += 1) {
    const name = `worker-${number}`;
    void resolver.resolve(
      desiredFixture({ name, identity: identity('hostile', name), image: `hole.example/${number}:1` }),
    );
  }
  const answered = resolver.resolve(desiredFixture({ identity: identity('other', 'hello') }));
  await expect.poll(() => hanging.length).toBe(4);
  // The next place is another namespace's.
  hanging[0]?.();
  expect(await answered).toBeUndefined();
});
