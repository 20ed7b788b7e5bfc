import { chmod, cp } from 'node:fs/promises';
import { join } from 'node:path';
import type { LambdaFunctionSpecUrl } from '../../src/api/lambda-function.ts';
import { ensureWebPackages } from '../support/python-clients.ts';
import { webFunctionSource } from '../support/web-function.ts';
import { accountsLayer, filesLayer } from './builders/files.ts';
import { pythonLayer } from './builders/python.ts';
import { webAdapterLayer } from './builders/rust.ts';
import type { LayerRecipe } from './layer.ts';
import type { Shape } from './shapes.ts';

/** An image of a web application, called by function URL. */
export interface WebShape extends Shape {
  readonly invokeMode: LambdaFunctionSpecUrl['invokeMode'];
}

const PACKAGES = { folder: 'opt/python', mode: 0o755 };

/** FastAPI and its server, without which the application has nothing of Lambda but the adapter. */
const packagesLayer: LayerRecipe = {
  name: 'web-packages',
  inputs: [PACKAGES],
  sources: () => [join(webFunctionSource, 'requirements.txt')],
  fill: async (root, { progress }) => {
    const target = join(root, PACKAGES.folder);
    await cp(await ensureWebPackages(progress), target, { recursive: true });
    // Workers are not root.
    await chmod(target, PACKAGES.mode);
  },
};

function webShape(name: string, invokeMode: WebShape['invokeMode'], env: readonly string[]): WebShape {
  return {
    name,
    special: `FastAPI behind AWS's Lambda Web Adapter, ${invokeMode}`,
    invokeMode,
    layers: [
      pythonLayer,
      accountsLayer,
      webAdapterLayer,
      packagesLayer,
      filesLayer('web-application', [{ from: join(webFunctionSource, 'app.py'), to: 'var/task/app.py' }]),
    ],
    run: {
      Entrypoint: ['/usr/local/bin/python', '-m', 'uvicorn'],
      Cmd: ['app:app', '--port', '8080', '--no-access-log'],
      Env: ['PATH=/usr/local/bin:/usr/bin:/bin', `PYTHONPATH=/${PACKAGES.folder}`, 'AWS_LWA_PORT=8080', ...env],
      WorkingDir: '/var/task',
    },
  };
}

/** One application as it is, its answers whole and streamed. */
export const webShapes: readonly WebShape[] = [
  webShape('fastapi', 'BUFFERED', []),
  webShape('fastapi-stream', 'RESPONSE_STREAM', ['AWS_LWA_INVOKE_MODE=response_stream']),
];
