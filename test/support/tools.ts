import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { toolSetFolder } from '../../src/cli/tool-cache.ts';
import { toolFamilies } from '../../src/cli/tool-catalog.ts';

/**
 * The folder with every third-party program: kube-apiserver, kubectl, etcd, containerd and its shim, ctr, runc, the CNI
 * plugins, crane, registry and aws-lambda-rie. `ESB_TOOLS` where it is set, else the user cache.
 *
 * @throws {Error} when they have not been built yet; `npm test` and `npm run up` build them
 */
export function toolsFolder(): string {
  const given = process.env.ESB_TOOLS;
  const folder = given === undefined || given === '' ? toolSetFolder() : given;
  for (const family of toolFamilies) {
    for (const program of family.programs) {
      if (!existsSync(join(folder, program.name))) {
        throw new Error(
          `${program.name} is not in ${folder}; build the programs with: node hack/run.mjs hack/build-tools.ts`,
        );
      }
    }
  }
  return folder;
}
