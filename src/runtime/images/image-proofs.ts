import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import { EsbError, errnoOf, messageOf } from '../../common/errors.ts';
import { Limiter } from '../../common/limiter.ts';
import type { Logger } from '../../common/logger.ts';

/** Owners of the right to an image: everybody, or namespaces by name. */
type Proof = 'Everybody' | ReadonlySet<string>;

interface ImageProofsOptions {
  /** Outlives the agent and a boot. */
  readonly file: string;
  /** Images on the node, each by its digest. Default: records of images that are gone are kept. */
  readonly present?: (() => Promise<ReadonlySet<string>>) | undefined;
  readonly logger: Logger;
}

/** Records from which on those of images that are gone are looked for. */
const PRUNE_ABOVE = 200;

/**
 * Namespaces that have shown at the registry that they may use an image, as the kubelet does it (KEP-2535): a pull
 * without credentials of a Secret gives an image to everybody, any other pull to the namespace of the worker. An image
 * without a record is everybody's: it was brought by an administrator, or pulled by an earlier release. A name is written
 * down before its pull, so that an agent that dies before the record leaves no image of that kind.
 */
export class ImageProofs {
  readonly #options: ImageProofsOptions;
  readonly #writes = new Limiter(1);
  /** By `registry/repository@digest`. */
  readonly #proofs = new Map<string, Proof>();
  /** Names with a pull under way, and how many. */
  readonly #pulling = new Map<string, number>();
  /** Names whose pull an agent died in, until the next one that succeeds. */
  readonly #unfinished = new Set<string>();
  /** Names that the file has. */
  #written: ReadonlySet<string> = new Set();
  #loading: Promise<void> | undefined;
  /** Whether records were lost with a file that could not be read: then every image without one has to be proven. */
  #lost = false;
  #pruneAbove = PRUNE_ABOVE;

  constructor(options: ImageProofsOptions) {
    this.#options = options;
  }

  /** Reads the file, once. Never rejects. */
  async load(): Promise<void> {
    this.#loading ??= this.#read();
    await this.#loading;
  }

  /**
   * Whether a namespace may use an image that is on the node, without asking the registry. Nothing is known before
   * {@link ImageProofs.load}.
   *
   * @param name of the image on the node
   * @param byDigest `registry/repository@digest`
   */
  allows(name: string, byDigest: string, namespace: string): boolean {
    const proof = this.#proofs.get(byDigest);
    return proof === undefined
      ? !this.#lost && !this.#pulling.has(name) && !this.#unfinished.has(name)
      : proof === 'Everybody' || proof.has(namespace);
  }

  /**
   * Writes down that an image is about to be pulled. The caller calls {@link ImageProofs.end} in any case.
   *
   * @throws {EsbError} `StateUnwritable`
   */
  async begin(name: string): Promise<void> {
    await this.load();
    this.#pulling.set(name, (this.#pulling.get(name) ?? 0) + 1);
    if (!this.#written.has(name)) {
      try {
        await this.#write();
      } catch (error) {
        this.end(name);
        throw new EsbError(`pulling ${name}: cannot write down whose image it will be: ${messageOf(error)}`, {
          code: 'StateUnwritable',
          retryable: true,
          cause: error,
        });
      }
    }
  }

  end(name: string): void {
    const left = (this.#pulling.get(name) ?? 1) - 1;
    if (left === 0) {
      // The file goes on naming it until something else is written: a pull of the same name then costs no write.
      this.#pulling.delete(name);
    } else {
      this.#pulling.set(name, left);
    }
  }

  /**
   * Records what a pull has shown, for a namespace or for everybody, before its end. A record that cannot be written holds
   * for this run alone.
   */
  async record(name: string, byDigest: string, by: { readonly namespace: string } | 'Everybody'): Promise<void> {
    this.#unfinished.delete(name);
    const before = this.#proofs.get(byDigest);
    const isKnown = before === 'Everybody' || (by !== 'Everybody' && before?.has(by.namespace) === true);
    // A set of its own for each proof, by which a look for images that are gone tells the proofs that came meanwhile.
    this.#proofs.set(
      byDigest,
      by === 'Everybody' || before === 'Everybody' ? 'Everybody' : new Set([...(before ?? []), by.namespace]),
    );
    if (isKnown) {
      return;
    }
    try {
      await this.#prune();
      await this.#write();
    } catch (error) {
      this.#options.logger.warn({ image: byDigest, err: error }, 'who may use an image cannot be kept');
    }
  }

  /** Takes names of pulls that are over out of the file. Never rejects. */
  async stop(): Promise<void> {
    if ([...this.#written].some((name) => !this.#pulling.has(name) && !this.#unfinished.has(name))) {
      await this.#write().catch((error: unknown) => {
        this.#options.logger.warn({ err: error }, 'who may use an image cannot be kept');
      });
    }
  }

  async #read(): Promise<void> {
    const { file, logger } = this.#options;
    try {
      const { images, lost, pulling } = JSON.parse(await readFile(file, 'utf8')) as ProofsFile;
      for (const [byDigest, proof] of Object.entries(images)) {
        this.#proofs.set(byDigest, proof === true ? 'Everybody' : new Set(proof));
      }
      for (const name of pulling) {
        this.#unfinished.add(name);
      }
      this.#lost = lost === true;
      this.#written = new Set(pulling);
    } catch (error) {
      if (errnoOf(error) !== 'ENOENT') {
        this.#lost = true;
        logger.error(
          { path: file, err: error },
          'cannot read who may use which image: every namespace has to prove it',
        );
      }
    }
  }

  async #prune(): Promise<void> {
    const { present } = this.#options;
    if (present === undefined || this.#proofs.size <= this.#pruneAbove) {
      return;
    }
    const before = new Map(this.#proofs);
    const digests = await present();
    for (const [byDigest, proof] of before) {
      if (this.#proofs.get(byDigest) === proof && !digests.has(byDigest.slice(byDigest.indexOf('@') + 1))) {
        this.#proofs.delete(byDigest);
      }
    }
    this.#pruneAbove = Math.max(PRUNE_ABOVE, 2 * this.#proofs.size);
  }

  async #write(): Promise<void> {
    const { file } = this.#options;
    await this.#writes.run(async () => {
      const pulling = new Set([...this.#pulling.keys(), ...this.#unfinished]);
      const images = [...this.#proofs].map(([byDigest, proof]) => [
        byDigest,
        proof === 'Everybody' ? true : [...proof],
      ]);
      const content: ProofsFile = {
        images: Object.fromEntries(images),
        pulling: [...pulling],
        ...(this.#lost ? { lost: true } : {}),
      };
      // Until the end of the write the file may have either.
      this.#written = this.#written.intersection(pulling);
      await mkdir(dirname(file), { recursive: true });
      await writeFileAtomically(file, JSON.stringify(content));
      this.#written = pulling;
    });
  }
}

interface ProofsFile {
  readonly images: Readonly<Record<string, true | readonly string[]>>;
  readonly pulling: readonly string[];
  readonly lost?: boolean;
}
