import assert from 'node:assert/strict';
import { startConformanceLab } from '../support/conformance-lab.ts';
import { layoutImage } from '../support/test-image.ts';
import { curlUrl } from '../support/url-curl.ts';
import { giveUrl, URL_FLAGS, URL_PORT } from '../support/url-function.ts';
import { waitFor } from '../support/wait-for.ts';
import { checkWebFunction } from '../support/web-function.ts';
import type { ShapeImage } from './shape-image.ts';
import type { WebShape } from './web-shapes.ts';

/** Runs web applications on a real agent, and calls them by their URLs through a real gateway. */
export interface WebCaller {
  /** Throws for an answer that is not the application's. */
  check(shape: WebShape, image: ShapeImage): Promise<void>;
  close(): Promise<void>;
}

export async function startWebCaller(): Promise<WebCaller> {
  const lab = await startConformanceLab(URL_FLAGS);
  const {
    api,
    lab: { registry },
  } = lab.agentLab;
  await api.kubectl(['label', 'namespace', 'default', 'esb.dev/public-functions=true']);
  const port = await lab.reach(URL_PORT);
  return {
    async check({ invokeMode, name }, { layout }) {
      const image = registry.put(`${name}:1`, await layoutImage(layout));
      const resources = { limits: { memory: '256Mi' as const }, pids: 100 };
      await lab.apply(name, { image, runtimeInterface: 'Lambda', timeoutSeconds: 30, resources });
      await giveUrl(api, name, { authType: 'NONE', invokeMode });
      const curl = (path: string, args?: readonly string[]) => curlUrl(port, name, path, args);
      await waitFor('the gateway to know the URL', async () => (await curl('/drips')).status === 200, {
        timeoutMs: 60_000,
        everyMs: 500,
      });
      const { body, seconds } = await curl('/drips');
      const isStreamed = seconds.last - seconds.first > 0.5;
      assert.deepEqual([body, isStreamed], ['one two', invokeMode === 'RESPONSE_STREAM']);
      await checkWebFunction(curl);
    },
    close: () => lab.close(),
  };
}
