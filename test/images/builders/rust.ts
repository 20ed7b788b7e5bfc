import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../../local/common/command.ts';
import type { SystemNeed } from '../../../local/tools/debian-packages.ts';
import type { LayerRecipe } from '../layer.ts';
import { functionFile, place } from './files.ts';

const BUILD_DEADLINE_MS = 40 * 60_000;
const ADAPTER = '0.9.1';
const needs: readonly SystemNeed[] = [
  { program: 'cargo', debianPackage: 'cargo', purpose: 'building a function in Rust' },
  { program: 'gcc', debianPackage: 'gcc', purpose: 'building a function in Rust' },
];
/** Builds that end soon, on a machine that has other work. */
const quick = {
  CARGO_BUILD_JOBS: '1',
  CARGO_PROFILE_RELEASE_OPT_LEVEL: '1',
  CARGO_PROFILE_RELEASE_LTO: 'off',
  CARGO_PROFILE_RELEASE_STRIP: 'true',
};

/** The function in Rust, with lambda_runtime, at a path of the image. */
export function rustFunctionLayer(path: string): LayerRecipe {
  return {
    name: 'rust-function',
    inputs: [quick, path],
    sources: () => [functionFile('rust')],
    needs,
    fill: async (root, { scratch, step }) => {
      await cp(functionFile('rust'), scratch, { recursive: true });
      step.note('cargo build');
      await runCommand('cargo', ['build', '--quiet', '--release'], {
        cwd: scratch,
        deadlineMs: BUILD_DEADLINE_MS,
        env: { ...process.env, ...quick, CARGO_TARGET_DIR: join(scratch, 'target') },
      });
      await place(root, { from: join(scratch, 'target/release/function'), to: path, mode: 0o755 });
    },
  };
}

/** AWS's Lambda Web Adapter as an extension, where its documentation has it copied. */
export const webAdapterLayer: LayerRecipe = {
  name: 'web-adapter',
  inputs: [ADAPTER, quick],
  needs,
  fill: async (root, { scratch, step }) => {
    step.note('cargo install');
    const args = ['install', '--quiet', '--locked', '--root', scratch, `lambda_web_adapter@${ADAPTER}`];
    await runCommand('cargo', args, {
      deadlineMs: BUILD_DEADLINE_MS,
      env: { ...process.env, ...quick, CARGO_TARGET_DIR: join(scratch, 'target') },
    });
    const from = join(scratch, 'bin/lambda-adapter');
    await place(root, { from, to: 'opt/extensions/lambda-adapter', mode: 0o755 });
  },
};
