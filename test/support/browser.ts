import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, chromium } from 'playwright-core';
import { type UnpackedPackages, unpacked } from './unpacked-packages.ts';

/** Debian's Chromium without windows. */
export const headlessChromium: UnpackedPackages = {
  name: 'browser',
  what: 'the browser Chromium',
  debianPackage: 'chromium-headless-shell',
  // Without the drivers and programs of a desktop, and libraries that every machine with a C++ program has.
  wanted:
    /^(chromium-common|chromium-headless-shell|fontconfig-config|fonts-dejavu-core|lib(?!c6$|gcc-s1$|stdc|llvm|gl1|glapi|glvnd|glx|z3|icu).*)$/,
};

export interface TestBrowser extends AsyncDisposable {
  /** A new reader, without cookies. */
  reader(): Promise<BrowserContext>;
}

/**
 * Starts the browser. All hosts lead to this machine.
 *
 * @throws {Error} when the browser has not been unpacked yet; `npm test` does
 */
export async function startBrowser(): Promise<TestBrowser> {
  const { libraries, root } = unpacked(headlessChromium);
  const program = join(root, 'usr/lib/chromium');
  const home = await mkdtemp(join(tmpdir(), 'esb-browser-'));
  const browser = await chromium.launch({
    executablePath: join(program, 'chromium-headless-shell'),
    // Root has no sandbox to give; nothing but the pages of the test is loaded.
    chromiumSandbox: false,
    args: ['--host-resolver-rules=MAP * 127.0.0.1'],
    env: {
      HOME: home,
      LD_LIBRARY_PATH: [libraries, join(libraries, 'pulseaudio'), program].join(':'),
      FONTCONFIG_SYSROOT: root,
    },
  });
  return {
    reader: () => browser.newContext(),
    async [Symbol.asyncDispose]() {
      await browser.close();
      await rm(home, { recursive: true, force: true });
    },
  };
}
