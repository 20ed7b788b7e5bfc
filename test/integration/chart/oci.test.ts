import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { apiVersions } from '../../../hack/chart-manifests.ts';
import { chartFolder, renderChart } from '../../support/chart.ts';
import { run } from '../../support/command.ts';
import { freePort } from '../../support/free-port.ts';
import { startOwnedProcess } from '../../support/owned-process.ts';
import { helmProgram, toolsFolder } from '../../support/tools.ts';
import { waitFor } from '../../support/wait-for.ts';

/** The commands of docs/how-to/install.md, "A chart in a registry", over plain HTTP. */
it('the chart is pushed to an OCI registry and installed from there as it is from a clone', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'esb-oci-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const host = `127.0.0.1:${await freePort()}`;
  const registry = await startOwnedProcess({
    program: join(toolsFolder(), 'crane'),
    args: ['registry', 'serve', '--address', host],
    logFile: join(folder, 'registry.log'),
  });
  onTestFinished(() => registry.kill());
  await waitFor('the registry', async () => (await fetch(`http://${host}/v2/`)).ok);

  const env = { KUBECONFIG: '/dev/null', HELM_CACHE_HOME: folder, HELM_CONFIG_HOME: folder, HELM_DATA_HOME: folder };
  const helm = async (...args: readonly string[]): Promise<string> =>
    (await run(helmProgram(), args, { env, cwd: folder })).stdout;
  await helm('package', chartFolder);
  await helm('push', 'esb-0.1.0.tgz', `oci://${host}/charts`, '--plain-http');
  const known = apiVersions.flatMap((version) => ['--api-versions', version]);
  const remote = [`oci://${host}/charts/esb`, '--version', '0.1.0', '--plain-http'];
  const rendered = await helm('template', 'esb', ...remote, '--namespace', 'esb-system', ...known);
  expect(rendered).toBe(await renderChart());
  expect(await helm('show', 'values', ...remote)).toContain('repository:');
});
