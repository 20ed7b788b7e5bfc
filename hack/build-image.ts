/**
 * Builds the image of ESB without a container engine.
 *
 *   node hack/run.mjs hack/build-image.ts                             into the user cache; prints layout and digest
 *   node hack/run.mjs hack/build-image.ts --push HOST/esb:0.1.0       and pushes it; prints the reference by digest
 *   node hack/run.mjs hack/build-image.ts --insecure --push …         the same, over plain HTTP
 *   node hack/run.mjs hack/build-image.ts --archive FILE              writes it as an archive for `ctr images import`
 *   node hack/run.mjs hack/build-image.ts --sbom FILE                 writes what it is made of
 *   node hack/run.mjs hack/build-image.ts --root FOLDER               only fills a folder with its file system, a folder for each layer
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { runCommand } from '../local/common/command.ts';
import { createProgress } from '../local/common/progress.ts';
import { buildImage, fillImageRoots, pushImage } from './image/build-image.ts';

const { values } = parseArgs({
  options: {
    push: { type: 'string' },
    insecure: { type: 'boolean', default: false },
    archive: { type: 'string' },
    sbom: { type: 'string' },
    root: { type: 'string' },
  },
});
const progress = createProgress({ write: (text) => process.stderr.write(text) });
if (values.root !== undefined) {
  await fillImageRoots(values.root, { progress });
} else {
  const image = await buildImage({ progress });
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
