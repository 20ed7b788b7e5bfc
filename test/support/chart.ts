import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { apiVersions } from '../../hack/chart-manifests.ts';
import { run } from './command.ts';
import { helmProgram } from './tools.ts';

/** An object as a chart renders it, as far as tests look into it. */
export interface RenderedObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly annotations?: Readonly<Record<string, string>>;
  };
  readonly spec?: {
    readonly template?: PodTemplate;
    readonly replicas?: number;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

interface PodTemplate {
  readonly metadata: { readonly labels: Readonly<Record<string, string>> };
  readonly spec: {
    readonly serviceAccountName: string;
    readonly containers: readonly { readonly image: string; readonly args: readonly string[] }[];
    readonly volumes?: readonly { readonly name: string }[];
    readonly [field: string]: unknown;
  };
}

const repository = join(import.meta.dirname, '../..');

/** The folder of the chart. */
export const chartFolder = join(repository, 'charts/esb');

/** Names of the values files of `charts/esb/ci`, and `undefined` for the defaults. */
export const valuesFiles = [undefined, 'minimal', 'postgres', 'k3s', 'hardened', 'monitored'] as const;

/** Arguments that make Helm take the values of a file of `charts/esb/ci`. */
export function valuesArguments(name: (typeof valuesFiles)[number]): readonly string[] {
  return name === undefined ? [] : ['--values', join(chartFolder, 'ci', `${name}-values.yaml`)];
}

/** Runs Helm, without any cluster. Rejects with what it wrote when it fails. */
export async function helm(args: readonly string[]): Promise<string> {
  // A cluster that the user has is not to be asked.
  const { stdout } = await run(helmProgram(), args, { env: { KUBECONFIG: '/dev/null' } });
  return stdout;
}

/** The chart as it would be installed. */
export async function renderChart(args: readonly string[] = []): Promise<string> {
  const known = apiVersions.flatMap((version) => ['--api-versions', version]);
  return helm(['template', 'esb', chartFolder, '--namespace', 'esb-system', ...known, ...args]);
}

/** Notes that Helm shows after the installation. */
export async function chartNotes(args: readonly string[] = []): Promise<string> {
  const told = await helm([
    ...['install', 'esb', chartFolder, '--namespace', 'esb-system', '--dry-run=client'],
    ...args,
  ]);
  return told.slice(told.indexOf('\nNOTES:\n'));
}

/** The objects of a file with several of them. */
export function objectsIn(text: string): readonly RenderedObject[] {
  return parseAllDocuments(text)
    .map((document) => document.toJS() as RenderedObject | null)
    .filter((object) => object !== null);
}

/** Pod templates of the objects. */
export function podTemplates(objects: readonly RenderedObject[]): readonly (PodTemplate & { readonly of: string })[] {
  return objects.flatMap(({ kind, metadata, spec }) => {
    const of = `${kind} ${metadata.name}`;
    if (kind === 'Pod') {
      return [{ of, metadata, spec } as unknown as PodTemplate & { of: string }];
    }
    return spec?.template === undefined ? [] : [{ of, ...spec.template }];
  });
}
