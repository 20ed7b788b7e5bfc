import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse, parseAllDocuments, stringify } from 'yaml';
import {
  chartFolder,
  type EsbCluster,
  imageRepository,
  imageTags,
  manifestsFolder,
  systemNamespace,
} from '../esb-cluster.ts';
import { eventVolume } from '../event-volume.ts';
import { expectNoFailure } from '../load.ts';
import type { Report } from '../report.ts';
import { expectCleanNodes, expectNothingLeft, type Traces } from './uninstall.ts';

interface Named {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/** `kubectl apply -k manifests/` gives the cluster that Helm gives, and the way back is as clean. */
export async function manifestsScenario(esb: EsbCluster, report: Report, before: Traces): Promise<void> {
  const { lab } = esb;
  const folder = join(lab.folder, 'manifests');
  const applied = await report.check('kubectl apply -k manifests/', async () => {
    await cp(manifestsFolder, folder, { recursive: true });
    await nameImages(folder);
    await nameImages(join(folder, 'uninstall'));
    await lab.kubectl(['apply', '-f', '-'], stringify(eventVolume));
    await lab.node('node-b').run('mkdir', ['-p', eventVolume.spec.local.path]);
    const built = objects(await lab.kubectl(['kustomize', folder]));
    const rendered = objects(
      // Asking the cluster, since what the chart has depends on what its API server knows.
      await lab.helm([...['template', 'esb', chartFolder, '-n', systemNamespace, '--no-hooks', '--dry-run=server']]),
    );
    // Helm makes the namespace itself.
    const missing = rendered.filter((name) => !built.includes(name));
    const more = built.filter((name) => !rendered.includes(name) && name !== `Namespace ${systemNamespace}`);
    if (missing.length > 0 || more.length > 0) {
      throw new Error(`not in manifests/: ${missing.join(', ')}; only there: ${more.join(', ')}`);
    }
    await lab.kubectl(['apply', '--server-side', '--force-conflicts', '-k', folder]);
    await esb.rolledOut();
    return `${built.length} objects, as by helm template`;
  });
  if (!applied) {
    return;
  }
  await report.check('workers that were kept run again and are called', async () => {
    await esb.workersReady();
    const load = await esb.load('node-a', ['hello'], 2);
    await load.goOn(20);
    return expectNoFailure(await load.result(), 20);
  });
  await report.check('kubectl delete -k manifests/ after the way out that they tell', async () => {
    await lab.kubectl(['apply', '-k', join(folder, 'uninstall')]);
    await lab.kubectl([
      ...['wait', '--for=condition=Complete', 'job', '--all', '-n', systemNamespace],
      '--timeout=300s',
    ]);
    await lab.kubectl(['delete', '-k', join(folder, 'uninstall')]);
    // Without the definitions, which would take every worker with them.
    await leaveDefinitionsOut(folder);
    await lab.kubectl(['delete', '-k', folder, '--timeout=120s']);
    await expectNothingLeft(esb);
    return expectCleanNodes(esb, before);
  });
}

async function nameImages(folder: string): Promise<void> {
  const file = join(folder, 'kustomization.yaml');
  const kustomization = parse(await readFile(file, 'utf8')) as object;
  const images = [{ name: 'esb', newName: imageRepository, newTag: imageTags[0] }];
  await writeFile(file, stringify({ ...kustomization, images }));
}

async function leaveDefinitionsOut(folder: string): Promise<void> {
  const file = join(folder, 'kustomization.yaml');
  const kustomization = parse(await readFile(file, 'utf8')) as { resources: readonly string[] };
  const resources = kustomization.resources.filter((name) => name !== 'crds.yaml');
  await writeFile(file, stringify({ ...kustomization, resources }));
}

/** Kind and name of every object of some documents, sorted. */
function objects(text: string): readonly string[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS() as Named | null)
    .filter((object) => object !== null)
    .map(({ kind, metadata }) => `${kind} ${metadata.name}`)
    .sort();
}
