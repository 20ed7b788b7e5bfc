import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { ImageProofs } from '../../../../src/runtime/images/image-proofs.ts';
import { recordingLogger } from '../../../support/recording-logger.ts';

const { logger } = recordingLogger();
const digestOf = (number: number): string => `sha256:${String(number).padStart(64, '0')}`;
const imageOf = (number: number): string => `registry.example/image@${digestOf(number)}`;
const nameOf = (number: number): string => `registry.example/image:${number}`;
/** Records that are kept without a look at the images of the node. */
const UNPRUNED = 200;

let file: string;
beforeEach(async () => {
  const folder = await mkdtemp(join(tmpdir(), 'esb-proofs-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  file = join(folder, 'image-proofs.json');
});

it('a proof that comes while those of images that are gone are looked for is kept', async () => {
  const gone = 7;
  const looks: ((digests: ReadonlySet<string>) => void)[] = [];
  const proofs = new ImageProofs({ file, logger, present: () => new Promise((resolve) => looks.push(resolve)) });
  const namespace = 'team-a';
  const images = Array.from({ length: UNPRUNED }, (_, number) => [imageOf(number), [namespace]]);
  await writeFile(file, JSON.stringify({ images: Object.fromEntries(images), pulling: [] }));
  await proofs.load();
  const last = proofs.record(nameOf(UNPRUNED), imageOf(UNPRUNED), { namespace });
  await expect.poll(() => looks.length).toBe(1);
  // Neither a new image nor one that is pulled again is in the list that is on its way.
  const later = proofs.record(nameOf(UNPRUNED + 1), imageOf(UNPRUNED + 1), { namespace });
  const again = proofs.record(nameOf(gone), imageOf(gone), { namespace });
  looks[0]?.(new Set([digestOf(UNPRUNED)]));
  await last;
  looks[1]?.(new Set([UNPRUNED, UNPRUNED + 1, gone].map(digestOf)));
  await Promise.all([later, again]);
  for (const number of [UNPRUNED, UNPRUNED + 1, gone]) {
    expect(proofs.allows(nameOf(number), imageOf(number), 'team-b'), nameOf(number)).toBe(false);
    expect(proofs.allows(nameOf(number), imageOf(number), namespace), nameOf(number)).toBe(true);
  }
});

it('a name whose pull begins while the file is written without it is written down before the pull', async () => {
  const proofs = new ImageProofs({ file, logger });
  await proofs.begin('registry.example/private:1');
  proofs.end('registry.example/private:1');
  // Begins a write that leaves the name out.
  const written = proofs.record('registry.example/public:1', imageOf(1), 'Everybody');
  await Promise.resolve();
  await proofs.begin('registry.example/private:1');
  await written;
  const { pulling } = JSON.parse(await readFile(file, 'utf8')) as { pulling: readonly string[] };
  expect(pulling).toEqual(['registry.example/private:1']);
});
