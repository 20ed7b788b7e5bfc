import { cp, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { runCommand } from '../../../local/common/command.ts';
import { unpackNode } from '../../../local/image/language-root.ts';
import type { LayerRecipe } from '../layer.ts';
import { place } from './files.ts';

const INSTALL_DEADLINE_MS = 20 * 60_000;
const NPM = '11.19.1';
const CLIENT = '4.0.2';

/** Node.js with npm, as the images of Node.js have them. */
export const nodeLayer: LayerRecipe = {
  name: 'node',
  inputs: [process.version, NPM],
  fill: async (root, { step, scratch }) => {
    await unpackNode(root, step);
    step.note(`npm install npm@${NPM}`);
    await npmInstall(`npm@${NPM}`, scratch);
    await copyModules(scratch, join(root, 'usr/local/lib/node_modules'));
    await place(root, { to: 'usr/local/bin/npm', link: '../lib/node_modules/npm/bin/npm-cli.js' });
    await place(root, { to: 'usr/local/bin/npx', link: '../lib/node_modules/npm/bin/npx-cli.js' });
  },
};

/** The runtime interface client of AWS for Node.js, with its part in C++, in `/function/node_modules`. */
export const nodeClientLayer: LayerRecipe = {
  name: 'node-client',
  inputs: [process.version, CLIENT],
  needs: [
    { program: 'cmake', debianPackage: 'cmake', purpose: 'building aws-lambda-ric' },
    { program: 'g++', debianPackage: 'g++', purpose: 'building aws-lambda-ric' },
    { program: 'make', debianPackage: 'make', purpose: 'building aws-lambda-ric' },
    { program: 'python3', debianPackage: 'python3', purpose: 'building aws-lambda-ric' },
    { program: 'xz', debianPackage: 'xz-utils', purpose: 'building aws-lambda-ric' },
  ],
  fill: async (root, { step, scratch }) => {
    step.note(`npm install aws-lambda-ric@${CLIENT}`);
    await npmInstall(`aws-lambda-ric@${CLIENT}`, scratch);
    await copyModules(scratch, join(root, 'function/node_modules'));
  },
};

async function copyModules(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  await cp(join(from, 'node_modules'), to, { recursive: true, verbatimSymlinks: true });
}

/** Installs a package of npm below a folder, built for the Node.js that runs this program. */
async function npmInstall(name: string, folder: string): Promise<void> {
  await writeFile(join(folder, 'package.json'), '{"private":true}');
  const programs = dirname(process.execPath);
  await runCommand('npm', ['install', '--no-audit', '--no-fund', '--omit=dev', '--omit=optional', name], {
    cwd: folder,
    deadlineMs: INSTALL_DEADLINE_MS,
    env: {
      ...process.env,
      PATH: `${programs}:${process.env.PATH ?? ''}`,
      // Headers of Node.js, which node-gyp would fetch.
      npm_config_nodedir: dirname(programs),
      npm_config_jobs: '1',
    },
  });
}
