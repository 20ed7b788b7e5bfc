import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { debianPythonVersion, unpackDebianPython } from '../../../local/image/language-root.ts';
import { installWheels } from '../../../local/image/pip.ts';
import type { LayerRecipe } from '../layer.ts';
import { place } from './files.ts';

/** Python as `python3` of Debian and as `/usr/local/bin/python`, where the images of Python have it. */
export const pythonLayer: LayerRecipe = {
  name: 'python',
  fill: async (root, { step }) => {
    await unpackDebianPython(root, step);
    await place(root, { to: 'usr/local/bin/python', link: '../../bin/python3' });
  },
};

/** The runtime interface client of AWS for Python in a folder of the image. */
export function pythonClientLayer(version: string, folder: string): LayerRecipe {
  const requirements = [`awslambdaric==${version}`, 'simplejson==4.3.0', 'snapshot-restore-py==1.0.0'];
  return {
    name: 'python-client',
    inputs: [requirements, folder],
    fill: async (root, { step, progress }) => {
      const target = join(root, folder);
      await mkdir(target, { recursive: true });
      await installWheels(requirements, await debianPythonVersion(step), target, { step, progress });
    },
  };
}
