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

it('workers that ask for one image the same way share a question that has no answer yet', async () => {
  const asked: string[] = [];
  const resolver = new ImageResolver({
    runtime: { resolveImage: ({ reference }) => Promise.resolve(void asked.push(reference)) },
    secrets: {} as never,
  });
  onTestFinished(() => resolver.stop());
  const worker = (number: number) => desiredFixture({ name: `worker-${number}` });
  const answers = Array.from({ length: 50 }, (_, number) => resolver.resolve(worker(number)));
  const other = resolver.resolve({ ...worker(50), imagePullPolicy: 'Always' });
  expect(await Promise.all([...answers, other])).toEqual(Array.from({ length: 51 }, () => undefined));
  expect(asked).toHaveLength(2);
  await resolver.resolve(worker(0));
  expect(asked).toHaveLength(3);
});
