import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { findCondition } from '../../../src/api/condition.ts';
import { messageOf } from '../../../src/common/errors.ts';
import { type EsbCluster, sampleReference } from '../esb-cluster.ts';
import type { Report } from '../report.ts';

const MISSPELT = sampleReference.replace('python-counter', 'python-conter');

/** Workers of the release, with what sets them apart. */
const workers = {
  'waited-runs': {},
  'waited-frozen': { desiredState: 'Paused', wakePolicy: 'Never' },
  'waited-absent': { desiredState: 'Absent' },
  'waited-removed': { idlePolicy: { removeAfterSeconds: 2 } },
};

/** `helm upgrade --wait` of a chart with workers, by the kstatus that Helm 4 has. */
export async function helmWaitScenario(esb: EsbCluster, report: Report): Promise<void> {
  const { lab } = esb;
  const chart = await chartOfWorkers(join(lab.folder, 'waited'));
  /** Sets images by the name of a worker; all others have the sample. */
  const upgrade = (images: Readonly<Record<string, string>>): Promise<string> => {
    const values = Object.entries(images).flatMap(([name, image]) => ['--set', `images.${name}=${image}`]);
    return lab.helm(['upgrade', '--install', 'waited', chart, ...values, '--wait', '--timeout', '90s']);
  };
  const failing = async (images: Readonly<Record<string, string>>): Promise<string> => {
    const begun = performance.now();
    const why = await upgrade(images).then(
      () => undefined,
      (error: unknown) => messageOf(error),
    );
    if (why === undefined) {
      throw new Error('helm has taken it for a success');
    }
    const seconds = ((performance.now() - begun) / 1_000).toFixed(0);
    return `after ${seconds} s: ${why.trim().split('\n').at(-1)?.slice(0, 200)}`;
  };

  await report.check(
    'helm --wait passes with workers that run, are kept frozen, rest Absent or were removed',
    async () => {
      await upgrade({});
      await esb.workersReady();
      return await upgrade({}).then(() => 'twice');
    },
  );
  await report.check(
    'helm upgrade --wait fails when the rollout fails, and the earlier container answers',
    async () => {
      const why = await failing({ 'waited-runs': MISSPELT });
      const worker = (await esb.workers()).find(({ metadata }) => metadata.name === 'waited-runs');
      const told = ['Ready', 'Stalled', 'Callable'].map(
        (type) => `${type} ${findCondition(worker?.status?.conditions, type)?.status}`,
      );
      if (told.join() !== 'Ready False,Stalled True,Callable True') {
        throw new Error(told.join());
      }
      return why;
    },
  );
  await report.check('helm upgrade --wait fails for an Absent worker with a misspelt image', () =>
    failing({ 'waited-absent': MISSPELT }),
  );
  await report.check('helm upgrade --wait passes once the images are right again', async () => {
    await upgrade({});
    await lab.helm(['uninstall', 'waited', '--wait', '--timeout', '90s']);
    return 'and takes them away';
  });
}

async function chartOfWorkers(folder: string): Promise<string> {
  const worker = `apiVersion: esb.dev/v1alpha1
kind: LambdaWorker
metadata: {name: {{ $name }}}
spec:
  image: {{ index $.Values.images $name | default $.Values.image }}
{{- with $spec }}
{{ toYaml . | indent 2 }}
{{- end }}
`;
  await mkdir(join(folder, 'templates'), { recursive: true });
  await writeFile(join(folder, 'Chart.yaml'), stringify({ apiVersion: 'v2', name: 'waited', version: '0.1.0' }));
  await writeFile(join(folder, 'values.yaml'), stringify({ image: sampleReference, images: {}, workers }));
  await writeFile(
    join(folder, 'templates/workers.yaml'),
    `{{- range $name, $spec := .Values.workers }}\n---\n${worker}{{- end }}\n`,
  );
  return folder;
}
