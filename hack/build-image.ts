/**
 * Builds the image of ESB without a container engine.
 *
 *   npm run image                             into the user cache; prints layout and digest
 *   npm run image -- --push HOST/esb:0.1.0    and pushes it; prints the reference by digest
 *   npm run image -- --insecure --push …      the same, over plain HTTP
 *   npm run image -- --platform linux/amd64,linux/arm64 --push …   one image for each, under one reference
 *   npm run image -- --archive FILE           writes it as an archive for `ctr images import`
 *   npm run image -- --sbom FILE              writes what it is made of
 *   npm run image -- --root FOLDER            only fills a folder with its file system, a folder for each layer
 */
import { writeFile } from 'node:fs/promises';
import { runCommand } from '../local/common/command.ts';
import { createProgress } from '../src/cli/progress.ts';
import { buildImage, buildIndex, fillImageRoots, pushImage } from './image/build-image.ts';
import { parsePlatforms } from './image/target.ts';
import { programOptions } from './program-options.ts';

const { values } = programOptions(import.meta.filename, {
  options: {
    push: { type: 'string' },
    insecure: { type: 'boolean', default: false },
    platform: { type: 'string' },
    archive: { type: 'string' },
    sbom: { type: 'string' },
    root: { type: 'string' },
  },
});
const progress = createProgress({ write: (text) => process.stderr.write(text) });
if (values.root !== undefined) {
  await fillImageRoots(values.root, { progress });
} else {
  const image =
    values.platform === undefined
      ? await buildImage({ progress })
      : await buildIndex(parsePlatforms(values.platform), { progress });
  process.stdout.write(`${image.layout}\n${image.digest}\n`);
  if (values.sbom !== undefined) {
    await writeFile(values.sbom, image.bill);
  }
  if (values.archive !== undefined) {
    await runCommand('tar', ['-cf', values.archive, '-C', image.layout, '.']);
  }
  if (values.push !== undefined) {
    const reference = await pushImage(image, values.push, { insecure: values.insecure, progress });
    process.stdout.write(`${reference}\n`);
  }
}
