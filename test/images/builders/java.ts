import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { runCommand } from '../../../local/common/command.ts';
import { debianClosure, ensurePackageLists, unpackDebianPackages } from '../../../local/image/debian-root.ts';
import type { LayerRecipe } from '../layer.ts';
import { functionFile } from './files.ts';

const BUILD_DEADLINE_MS = 15 * 60_000;
const JAVA = 'opt/java';
const libraries = /^(libc6|libgcc-s1|libstdc\+\+6|zlib1g)$/;

/** A Java runtime of this machine's JDK, below `/opt/java`, and the libraries that it needs. */
export const javaLayer: LayerRecipe = {
  name: 'java',
  needs: [{ program: 'jlink', debianPackage: 'openjdk-17-jdk-headless', purpose: 'building an image with Java' }],
  fill: async (root, { step }) => {
    await ensurePackageLists('zlib1g', step);
    await unpackDebianPackages(await debianClosure(['libstdc++6', 'zlib1g'], libraries), root, step);
    await mkdir(join(root, 'opt'));
    step.note('jlink');
    const modules = ['java.se', 'jdk.crypto.ec', 'jdk.unsupported', 'jdk.zipfs'];
    const args = ['--add-modules', modules.join(','), '--output', join(root, JAVA)];
    await runCommand('jlink', [...args, '--strip-debug', '--no-header-files', '--no-man-pages'], {
      deadlineMs: BUILD_DEADLINE_MS,
    });
  },
};

/** The function in Java and AWS's runtime interface client for Java, below `/function`. */
export const javaFunctionLayer: LayerRecipe = {
  name: 'java-function',
  sources: () => [functionFile('java')],
  needs: [
    { program: 'mvn', debianPackage: 'maven', purpose: 'building a function in Java' },
    { program: 'javac', debianPackage: 'openjdk-17-jdk-headless', purpose: 'building a function in Java' },
  ],
  fill: async (root, { scratch, step }) => {
    await cp(functionFile('java'), scratch, { recursive: true });
    step.note('mvn package');
    const jars = join(root, 'function');
    const goals = ['package', 'dependency:copy-dependencies', `-DoutputDirectory=${jars}`, '-DincludeScope=runtime'];
    await runCommand('mvn', ['--quiet', '--batch-mode', ...goals], { cwd: scratch, deadlineMs: BUILD_DEADLINE_MS });
    await cp(join(scratch, 'target/function-1.jar'), join(jars, 'function.jar'));
  },
};
