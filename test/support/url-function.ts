import type { LambdaFunctionSpecUrl } from '../../src/api/lambda-function.ts';
import type { ApiServer } from './api-server.ts';
import { functionFixture } from './function-fixture.ts';
import { functionManifest } from './function-manifest.ts';

/** Port of URLs on the loopback of the node of a gateway with these flags. */
export const URL_PORT = 9081;
export const URL_FLAGS: readonly string[] = [
  '--function-url-domain=fn.example.com',
  `--function-url-listen=127.0.0.1:${URL_PORT}`,
];

/** Gives a function a URL. No controller runs in such a lab: its workers are those of the test. */
export async function giveUrl(
  api: Pick<ApiServer, 'kubectl'>,
  name: string,
  url: LambdaFunctionSpecUrl,
): Promise<void> {
  const { spec } = functionFixture({ name, spec: { url } });
  await api.kubectl(['apply', '-f', '-'], functionManifest(name, spec));
}
