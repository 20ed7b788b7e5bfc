import { chmod, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { debianClosure, ensurePackageLists, unpackDebianPackages } from '../../../local/image/debian-root.ts';
import type { LayerRecipe } from '../layer.ts';

/** Path of a file of the functions of the images, or of a folder. */
export function functionFile(...path: readonly string[]): string {
  return join(import.meta.dirname, '..', 'functions', ...path);
}

/** A file of a layer: from this machine, with a text, or a link. */
export type PlacedFile = { readonly to: string; readonly mode?: number } & (
  | { readonly from: string }
  | { readonly text: string }
  | { readonly link: string }
);

/** A layer of single files. */
export function filesLayer(name: string, files: readonly PlacedFile[]): LayerRecipe {
  return {
    name,
    inputs: files.map((file) => ({ ...file, from: undefined })),
    sources: () => files.flatMap((file) => ('from' in file ? [file.from] : [])),
    fill: async (root) => {
      for (const file of files) {
        await place(root, file);
      }
    },
  };
}

/** Puts a file into a layer. */
export async function place(root: string, file: PlacedFile): Promise<void> {
  const target = join(root, file.to);
  await mkdir(dirname(target), { recursive: true });
  if ('link' in file) {
    await symlink(file.link, target);
    return;
  }
  await ('from' in file ? copyFile(file.from, target) : writeFile(target, file.text));
  await chmod(target, file.mode ?? 0o644);
}

/** Folders and accounts that every distribution has. */
export const accountsLayer = filesLayer('accounts', [
  {
    to: 'etc/passwd',
    text: 'root:x:0:0:root:/root:/bin/sh\napp:x:1001:1001::/home/app:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n',
  },
  { to: 'etc/group', text: 'root:x:0:\napp:x:1001:\nnogroup:x:65534:\n' },
  { to: 'etc/nsswitch.conf', text: 'passwd: files\ngroup: files\nhosts: files dns\n' },
]);

/** The emulator of AWS, where images for local tests have it. */
export const emulatorLayer: LayerRecipe = {
  name: 'emulator',
  sources: ({ tools }) => [join(tools, 'aws-lambda-rie')],
  fill: (root, { tools }) =>
    place(root, { from: join(tools, 'aws-lambda-rie'), to: 'usr/local/bin/aws-lambda-rie', mode: 0o755 }),
};

/** Packages that only an installed system needs. */
const leftOut = /^(base-files|debianutils|dpkg|gawk|install-info|mawk|original-awk|perl-base|readline-common|tar)$/;

/** Programs of Debian with the libraries that they need. */
export function debianLayer(name: string, programs: readonly string[]): LayerRecipe {
  return {
    name,
    inputs: [programs],
    fill: async (root, { step }) => {
      await ensurePackageLists(programs[0] ?? '', step);
      const packages = await debianClosure(programs, /^[a-z]/);
      await unpackDebianPackages(
        packages.filter((each) => !leftOut.test(each)),
        root,
        step,
      );
    },
  };
}
