import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ImageCaller } from '../../images/image-caller.ts';
import { startInitImageCaller } from '../../images/init-image-caller.ts';
import { buildContext } from '../../images/layer.ts';
import { ensureShapeImage } from '../../images/shape-image.ts';
import { shapes } from '../../images/shapes.ts';
import { tryImage } from '../../images/trial.ts';
import { toolsFolder } from '../../support/tools.ts';

let caller: ImageCaller;
beforeAll(async () => {
  caller = await startInitImageCaller();
});
afterAll(() => caller?.close());

/** The languages of `npm run test:images` that are quick to build; that program calls all images. */
const quick = shapes.filter(({ tested, architecture }) => tested === true && architecture === undefined);

it.concurrent.each(quick)(
  'the image $name ($special) answers cold, warm, woken, after a timeout, and over the end of its agent',
  async (shape) => {
    const image = await ensureShapeImage(shape, buildContext(toolsFolder()));
    expect((await tryImage(caller, shape, image)).fault).toBeUndefined();
  },
);

it('an image for another processor is refused with the names of both', async () => {
  const [shape] = shapes.filter(({ architecture }) => architecture !== undefined);
  if (shape === undefined) {
    throw new Error('no image is for another processor');
  }
  const image = await ensureShapeImage(shape, buildContext(toolsFolder()));
  await expect(caller.start(shape, image)).rejects.toThrow(/linux\/arm64.*linux\/amd64/);
});
