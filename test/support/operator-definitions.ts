import { join } from 'node:path';
import { run } from './command.ts';
import { downloadError } from './download-error.ts';

/** Where Go finds modules, and by what it trusts a server of them. */
const GO_SETTINGS = ['GOMODCACHE', 'GOPROXY', 'SSL_CERT_FILE'];

/**
 * Files with the definitions of the Prometheus operator that optional objects of the chart are of. They are in its Go
 * module, which is downloaded once.
 */
export async function operatorDefinitions(): Promise<readonly string[]> {
  const folder = await moduleFolder('prometheus-operator', 'github.com/prometheus-operator/prometheus-operator');
  return ['servicemonitors', 'prometheusrules'].map((name) =>
    join(folder, `example/prometheus-operator-crd/monitoring.coreos.com_${name}.yaml`),
  );
}

/** Files with the definitions of these resources, from the Go module of the Gateway API. */
export async function gatewayDefinitions(plurals: readonly string[]): Promise<readonly string[]> {
  const folder = await moduleFolder('gateway-api', 'sigs.k8s.io/gateway-api');
  return plurals.map((plural) => join(folder, `config/crd/standard/gateway.networking.k8s.io_${plural}.yaml`));
}

/** @param pins folder of `hack/tools` that pins the version of the module */
async function moduleFolder(pins: string, module: string): Promise<string> {
  const { stdout } = await run('go', ['mod', 'download', '-json', module], {
    cwd: join(import.meta.dirname, '../../hack/tools', pins),
    env: { GOFLAGS: '-mod=readonly', GOWORK: 'off' },
  }).catch((error: unknown) => {
    throw downloadError(`the Go module ${module} cannot be downloaded`, error, GO_SETTINGS);
  });
  return (JSON.parse(stdout) as { Dir: string }).Dir;
}
