import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder, familyFolder, toolSetFolder } from '../../local/tools/tool-cache.ts';
import { clusterFamilies, helmFamily, type ToolFamily, toolFamilies } from '../../local/tools/tool-catalog.ts';

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
    requirePrograms(folder, family);
  }
  return folder;
}

/**
 * Path of Helm.
 *
 * @throws {Error} when it has not been built yet; `npm test` builds it
 */
export function helmProgram(): string {
  const folder = familyFolder(cacheFolder(), helmFamily);
  requirePrograms(folder, helmFamily);
  return join(folder, 'helm');
}

/**
 * The folder with what a whole cluster needs beside `toolsFolder()`: kube-controller-manager, kube-scheduler, kubelet,
 * kube-proxy and Helm. `ESB_CLUSTER_TOOLS` where it is set, else the user cache.
 *
 * @throws {Error} when they have not been built yet; `npm run test:cluster` builds them
 */
export function clusterToolsFolder(): string {
  const given = process.env.ESB_CLUSTER_TOOLS;
  const folder = given === undefined || given === '' ? toolSetFolder(undefined, undefined, clusterFamilies) : given;
  for (const family of clusterFamilies) {
    requirePrograms(folder, family);
  }
  return folder;
}

function requirePrograms(folder: string, family: ToolFamily): void {
  for (const program of family.programs) {
    if (!existsSync(join(folder, program.name))) {
      throw new Error(
        `${program.name} is not in ${folder}; build the programs with: node hack/run.mjs hack/build-tools.ts`,
      );
    }
  }
}
