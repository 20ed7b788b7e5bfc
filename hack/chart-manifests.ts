import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { runCommand } from '../local/common/command.ts';
import { helmFamily } from '../local/tools/tool-catalog.ts';
import { ensureTools } from '../local/tools/tools.ts';
import { createProgress } from '../src/cli/progress.ts';
import type { Product } from './product.ts';

const NAMESPACE = 'esb-system';
const banner = '# Made from charts/esb by `npm run generate`; do not edit.\n';
/** Where the chart has its copies of the resource definitions. */
const definitionsFolder = 'charts/esb/files/crds';

/** API versions that Helm would ask the cluster for; the chart has objects of these where they exist. */
export const apiVersions: readonly string[] = ['admissionregistration.k8s.io/v1/MutatingAdmissionPolicy'];

/** Goes after an uninstall, where the manifests remove the namespace with all that is in it. */
const leftOut = 'leftovers.yaml';

/** Annotations and labels that mean something to Helm alone. */
const helmLine = /^ +(?:helm\.sh\/\S+|app\.kubernetes\.io\/managed-by): .*\n/gm;
const emptyAnnotations = /^( +)annotations:\n(?!\1 )/gm;

/** The resource definitions, as the chart carries them. */
export async function chartDefinitions(root: string): Promise<readonly Product[]> {
  const files = (await readdir(join(root, 'crds'))).filter((file) => file.endsWith('.yaml')).toSorted();
  return Promise.all(
    files.map(async (file) => ({
      path: join(definitionsFolder, file),
      text: await readFile(join(root, 'crds', file), 'utf8'),
    })),
  );
}

/**
 * The chart rendered plainly with its default values, a file for each of its templates: what is installed stands in
 * `manifests`, and the Job that goes before an uninstall in `manifests/uninstall`. Helm is built when it is not there.
 */
export async function chartManifests(root: string): Promise<readonly Product[]> {
  const progress = createProgress({ write: (text) => process.stderr.write(text) });
  const tools = await ensureTools({ progress, families: [helmFamily] });
  const folder = await mkdtemp(join(tmpdir(), 'esb-chart-'));
  try {
    const chart = join(folder, 'esb');
    await cp(join(root, 'charts/esb'), chart, { recursive: true });
    await mkdir(join(chart, 'files/crds'), { recursive: true });
    for (const { path, text } of await chartDefinitions(root)) {
      await writeFile(join(chart, 'files/crds', basename(path)), text);
    }
    const { stdout } = await runCommand(tools.paths.get('helm') ?? 'helm', [
      ...['template', 'esb', chart, '--namespace', NAMESPACE, '--skip-tests', '--skip-schema-validation'],
      // Means something to Helm alone.
      ...['--set', 'crds.keep=false'],
      // A local instance applies these as well.
      ...['--set', 'controller.localUser=true'],
      ...apiVersions.flatMap((version) => ['--api-versions', version]),
    ]);
    return productsOf(stdout);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Output of Helm by the template that each object comes from. */
function productsOf(rendered: string): readonly Product[] {
  const documents = rendered.split(/^---\n/m).flatMap((document) => {
    const { file, text } = /^# Source: esb\/templates\/(?<file>\S+)\n(?<text>[\s\S]*)$/.exec(document)?.groups ?? {};
    return file === undefined || text === undefined || file === leftOut ? [] : [{ file, text }];
  });
  return [...Map.groupBy(documents, ({ file }) => file)].map(([file, ofFile]) => ({
    path: join(file === 'retire.yaml' ? 'manifests/uninstall' : 'manifests', file),
    text: banner + ofFile.map(({ text }) => plain(text)).join('---\n'),
  }));
}

function plain(text: string): string {
  return `${text.replaceAll(helmLine, '').replaceAll(emptyAnnotations, '').replaceAll(/ +$/gm, '').trim()}\n`;
}
