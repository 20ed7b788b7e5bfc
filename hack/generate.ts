/**
 * Generates files from other files of the repository: the TypeScript types in src/api/generated from the resource
 * definitions in crds/ and those in src/protocol/generated from proto/esb, the table of Lambda's operations from
 * hack/aws, the pages of docs/reference for flags, fields, metrics and reasons, the parts of the chart that follow from
 * its values and from crds/, and manifests/ from the chart.
 *
 *   node hack/generate.ts            writes them
 *   node hack/generate.ts --check    fails when what is there is not what would be written
 */
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { messageOf } from '../src/common/errors.ts';
import { chartDocuments } from './chart-document.ts';
import { chartDefinitions, chartManifests } from './chart-manifests.ts';
import { commandDocument } from './command-document.ts';
import { generatedOperationsFolder, lambdaOperations } from './lambda-operations.ts';
import { layoutDocument } from './layout-document.ts';
import { metricsDocument } from './metrics-document.ts';
import type { Product, ProductMaker } from './product.ts';
import { programOptions } from './program-options.ts';
import { generatedProtocolFolder, protocolTypes } from './protocol-types.ts';
import { reasonDocument } from './reason-document.ts';
import { resourceDocuments } from './resource-document.ts';
import { generatedTypesFolder, resourceTypes } from './resource-types.ts';
import { templateDefinitions } from './template-definitions.ts';
import { templateFields } from './template-fields.ts';
import { testDocuments } from './test-documents.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Makers of files that other makers read. */
const earlyMakers: readonly ProductMaker[] = [templateDefinitions];

/** Makers of all other products. Products of a maker are written, checked, and removed again where their folder is owned. */
const makers: readonly ProductMaker[] = [
  resourceTypes,
  templateFields,
  protocolTypes,
  lambdaOperations,
  resourceDocuments,
  commandDocument,
  metricsDocument,
  layoutDocument,
  reasonDocument,
  chartDefinitions,
  chartDocuments,
  chartManifests,
  testDocuments,
];

/** Folders in which nothing is but what is made, so that what is no longer made is removed. */
const ownedFolders: readonly string[] = [
  generatedTypesFolder,
  generatedProtocolFolder,
  generatedOperationsFolder,
  'charts/esb/files/crds',
];

/** Products that are missing or out of date on disk. */
async function driftOf(products: readonly Product[]): Promise<readonly Product[]> {
  const present = await Promise.all(
    products.map(({ path }) => readFile(join(root, path), 'utf8').catch(() => undefined)),
  );
  return products.filter(({ text }, index) => present[index] !== text);
}

/** Files of the owned folders that nothing makes. */
async function staleFiles(products: readonly Product[]): Promise<readonly string[]> {
  const made = new Set(products.map(({ path }) => path));
  const files = await Promise.all(
    ownedFolders.map(async (folder) => {
      const entries = await readdir(join(root, folder), { recursive: true, withFileTypes: true }).catch(() => []);
      return entries
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
    }),
  );
  return files.flat().filter((file) => !made.has(file));
}

async function write(products: readonly Product[]): Promise<void> {
  for (const { path, text } of products) {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), text);
  }
}

async function main(): Promise<void> {
  const { values } = programOptions(import.meta.filename, { options: { check: { type: 'boolean', default: false } } });
  const early = (await Promise.all(earlyMakers.map(async (make) => await make(root)))).flat();
  if (!values.check) {
    await write(await driftOf(early));
  }
  const made = await Promise.allSettled(makers.map(async (make) => await make(root)));
  const products = [...early, ...made.flatMap((each) => (each.status === 'fulfilled' ? each.value : []))];
  const faults = made.flatMap((each) => (each.status === 'rejected' ? [messageOf(each.reason)] : []));
  for (const fault of faults) {
    // Products of the other makers are written all the same.
    console.error(fault);
    process.exitCode = 1;
  }
  const drifted = await driftOf(products);
  const stale = faults.length > 0 ? [] : await staleFiles(products);
  const names = [...stale, ...drifted.map(({ path }) => path)].toSorted();
  if (values.check) {
    if (names.length > 0) {
      console.error(`not what the source says: ${names.join(', ')}; run npm run generate`);
      process.exitCode = 1;
    }
    return;
  }
  await write(drifted);
  for (const file of stale) {
    await rm(join(root, file));
  }
  console.log(names.length === 0 ? 'everything is up to date' : `written: ${names.join(', ')}`);
}

await main();
