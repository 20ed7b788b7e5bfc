import { cp, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { chartFolder, type EsbCluster, systemNamespace } from '../esb-cluster.ts';
import type { Report } from '../report.ts';
import { containersOf } from './install.ts';

/** Parts of a resource definition that the older chart of this scenario lacks. */
interface Definition {
  readonly metadata: { readonly annotations: Record<string, string> };
  readonly spec: {
    readonly versions: readonly {
      additionalPrinterColumns: { readonly name: string }[];
      readonly schema: {
        readonly openAPIV3Schema: {
          readonly properties: { readonly spec: { readonly properties: Record<string, unknown> } };
        };
      };
    }[];
  };
}

const DEFINITION = 'lambdaworkers.esb.dev';
const REVISION = 'esb.dev/schema-revision';
const COLUMN = 'Message';
const FIELD = 'tolerations';

/** Resource definitions follow the chart, which Helm's own folder for them would not do, and take nothing along. */
export async function definitionsScenario(esb: EsbCluster, report: Report): Promise<void> {
  const { lab, values } = esb;
  const upgradeTo = (chart: string): Promise<string> =>
    lab.helm([...['upgrade', 'esb', chart, '-n', systemNamespace, ...values], ...['--wait', '--timeout', '3m']]);
  const installed = async (): Promise<Definition> =>
    JSON.parse(await lab.kubectl(['get', 'crd', DEFINITION, '-o', 'json'])) as Definition;
  const uids = (): Promise<string> =>
    lab.kubectl([
      ...['get', 'lambdaworkers,lambdanodes,crds', '-A'],
      ...['-o', 'jsonpath={range .items[*]}{.metadata.uid} {end}'],
    ]);
  await report.check('helm upgrade brings resource definitions up to date, and workers live on', async () => {
    const before = { uids: await uids(), containers: await containersOf(esb) };
    const now = await installed();
    await upgradeTo(await olderChart(join(lab.folder, 'older-chart')));
    const older = await installed();
    const told = traits(older);
    if (told.column || told.field || told.revision === traits(now).revision) {
      throw new Error(`the older chart did not come to be: ${JSON.stringify(told)}`);
    }
    await upgradeTo(chartFolder);
    if (JSON.stringify(traits(await installed())) !== JSON.stringify(traits(now))) {
      throw new Error(`before ${JSON.stringify(traits(now))}, after ${JSON.stringify(traits(await installed()))}`);
    }
    await esb.rolledOut();
    await esb.workersReady();
    const after = { uids: await uids(), containers: await containersOf(esb) };
    if (JSON.stringify(after) !== JSON.stringify(before)) {
      throw new Error(`before ${JSON.stringify(before)}, after ${JSON.stringify(after)}`);
    }
    return `revision ${told.revision} to ${traits(now).revision}; ${after.containers.length} containers as before`;
  });
}

function traits({ metadata, spec }: Definition) {
  const [version] = spec.versions;
  return {
    revision: metadata.annotations[REVISION],
    column: version?.additionalPrinterColumns.some(({ name }) => name === COLUMN) === true,
    field: version?.schema.openAPIV3Schema.properties.spec.properties[FIELD] !== undefined,
  };
}

/** Makes a chart whose definition is of an earlier revision, without a column and a field. */
async function olderChart(folder: string): Promise<string> {
  await cp(chartFolder, folder, { recursive: true });
  const file = join(folder, 'files/crds/lambdaworkers.yaml');
  const definition = parse(await readFile(file, 'utf8')) as Definition;
  definition.metadata.annotations[REVISION] = '2';
  for (const version of definition.spec.versions) {
    version.additionalPrinterColumns = version.additionalPrinterColumns.filter(({ name }) => name !== COLUMN);
    delete version.schema.openAPIV3Schema.properties.spec.properties[FIELD];
  }
  await writeFile(file, stringify(definition));
  return folder;
}
