import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import { chartSchema, typeNames } from './chart-schema.ts';
import { type ChartValue, readChartValues } from './chart-values.ts';
import { code, table } from './markdown.ts';
import type { Product } from './product.ts';

interface ChartFacts {
  readonly version: string;
  readonly appVersion: string;
  readonly kubeVersion: string;
  readonly description: string;
}

const introduction = ({ description, version, kubeVersion }: ChartFacts): string => `# Chart esb ${version}

${description}

\`\`\`sh
helm install esb charts/esb --namespace esb-system --create-namespace --set image.repository=registry.example/esb
\`\`\`

The chart needs Kubernetes ${kubeVersion.replace(/-0$/, '')}, containerd 2.0 or newer on the nodes, and [the image](../../Dockerfile) in a
registry that they reach. [How to install, upgrade and remove it](../../docs/how-to/install.md) tells more. One release
is for a whole cluster: the names of its objects are fixed.

| part | runs as | rights |
|---|---|---|
| controller | Deployment, leader-elected | Pod Security "restricted" |
| gateway | Deployment, two by default | Pod Security "restricted" |
| events | StatefulSet with a volume, unless gateways share a database | Pod Security "restricted" |
| agent | DaemonSet in the network of the node | privileged: it makes containers and their networks on the node. The namespace has to allow that |

- **Resource definitions** are in the release, so that an upgrade of the chart upgrades them, and stay when it is
  uninstalled (\`crds.keep\`): with them every LambdaWorker would go. A later install under another name or namespace
  takes them over with \`--take-ownership\`.
- **An upgrade** replaces agents one by one. Workers are not in their Pods and run on. A call that comes meanwhile waits
  at the gateway; one that runs has \`agent.drainSeconds\` to be answered. While \`esb-events\` is replaced, calls of type
  Event are answered with 503, which SDKs repeat.
- **An uninstall** begins with a Job that takes all workers from the nodes and lets agents remove what they made there
  (\`uninstall\`).

This page and \`values.schema.json\` are made from \`values.yaml\` by \`npm run generate\`.

`;

/** The schema, the README and the copies of the resource definitions of the chart. */
export async function chartDocuments(root: string): Promise<readonly Product[]> {
  const chart = join(root, 'charts/esb');
  const facts = parse(await readFile(join(chart, 'Chart.yaml'), 'utf8')) as ChartFacts;
  const values = readChartValues(await readFile(join(chart, 'values.yaml'), 'utf8'));
  return [
    { path: 'charts/esb/values.schema.json', text: chartSchema(values) },
    {
      path: 'charts/esb/README.md',
      text: `${introduction(facts)}## Values\n\n${valueTables(values, '###')}`,
    },
  ];
}

/** A table for each part of the values. */
function valueTables(values: readonly ChartValue[], level: string): string {
  const parts = Map.groupBy(values, ({ path }) => (path.length > 1 ? (path[0] ?? '') : ''));
  return [...parts]
    .map(([part, ofPart]) => {
      const rows = ofPart.map((value) => [
        code(value.path.join('.')),
        typeNames(value),
        code(JSON.stringify(value.default)),
        value.description,
      ]);
      return `${level} ${part === '' ? 'Every role' : part}\n\n${table(['value', 'type', 'default', 'meaning'], rows)}\n`;
    })
    .join('\n');
}
