import { buildImage } from '../../hack/image/build-image.ts';
import { ensureSampleImage, sampleImageNames } from '../../local/image/sample-image.ts';
import { ensureNeeds, initBuildNeeds, runningNeeds } from '../../local/tools/debian-packages.ts';
import { helmFamily } from '../../local/tools/tool-catalog.ts';
import { ensureTools } from '../../local/tools/tools.ts';
import { createProgress } from '../../src/cli/progress.ts';
import { buildContext } from '../images/layer.ts';
import { ensureShapeImage } from '../images/shape-image.ts';
import { shapes } from '../images/shapes.ts';
import { headlessChromium } from '../support/browser.ts';
import { buildChained } from '../support/chained-plugins.ts';
import { definitionCheck } from '../support/definition-check.ts';
import { dockerEngine } from '../support/docker-packages.ts';
import { fetchFirstFunctionModules } from '../support/first-function-modules.ts';
import { checkedInitProgram, ensureArm64Tools, initProgram } from '../support/init-lab.ts';
import { kstatusProgram } from '../support/kstatus-program.ts';
import { gatewayDefinitions, operatorDefinitions } from '../support/operator-definitions.ts';
import { ensurePythonClients, ensureWebPackages, ensureZappa } from '../support/python-clients.ts';
import { workerProgram } from '../support/test-image.ts';
import { ensureUnpacked } from '../support/unpacked-packages.ts';
import { takeoverShapes } from '../takeover/shapes.ts';

/** Prepares the programs of the system, third-party programs, images and AWS clients that tests on real parts run. */
export async function preparePrograms({ image }: { readonly image: boolean }): Promise<void> {
  const progress = createProgress({ write: (text) => process.stdout.write(text) });
  if (process.platform === 'linux') {
    await ensureNeeds([...runningNeeds, ...initBuildNeeds], progress);
    await ensureArm64Tools(progress);
  }
  const tools = await ensureTools({ progress });
  await ensureTools({ progress, families: [helmFamily] });
  for (const name of sampleImageNames) {
    await ensureSampleImage(name, { progress, tools: tools.folder });
  }
  for (const shape of [...shapes.filter(({ tested }) => tested), ...takeoverShapes.map(({ shape }) => shape)]) {
    await ensureShapeImage(shape, buildContext(tools.folder, progress));
  }
  if (image) {
    // Keeps the files from which its tests build the image again, without a network.
    await buildImage({ progress });
  }
  // Modules of Go come from the network, which tests in namespaces of their own do not have.
  await progress.step('building the programs of the tests', async () => {
    await workerProgram();
    await initProgram();
    await checkedInitProgram();
    await buildChained();
    await kstatusProgram();
    await definitionCheck();
    await fetchFirstFunctionModules();
  });
  await ensurePythonClients(progress);
  await ensureWebPackages(progress);
  await ensureZappa(progress);
  await operatorDefinitions();
  await gatewayDefinitions([]);
  if (process.platform === 'linux') {
    await ensureUnpacked(dockerEngine, progress);
    await ensureUnpacked(headlessChromium, progress);
  }
}
