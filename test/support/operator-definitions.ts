import { join } from 'node:path';
import { run } from './command.ts';

const MODULE = 'github.com/prometheus-operator/prometheus-operator';

/**
 * Files with the definitions of the Prometheus operator that optional objects of the chart are of. They are in its Go
 * module, which is downloaded once.
 */
export async function operatorDefinitions(): Promise<readonly string[]> {
  const { stdout } = await run('go', ['mod', 'download', '-json', MODULE], {
    cwd: join(import.meta.dirname, '../../hack/tools/prometheus-operator'),
    env: { GOFLAGS: '-mod=readonly', GOWORK: 'off' },
  });
  const { Dir: folder } = JSON.parse(stdout) as { Dir: string };
  return ['servicemonitors', 'prometheusrules'].map((name) =>
    join(folder, `example/prometheus-operator-crd/monitoring.coreos.com_${name}.yaml`),
  );
}
