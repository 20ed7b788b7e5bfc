import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeFileAtomically } from '../../common/atomic-file.ts';
import { errnoOf } from '../../common/errors.ts';
import type { Logger } from '../../common/logger.ts';
import { certificatesIn, isNewAuthority } from '../../common/x509.ts';

export interface ClientAuthorityOptions {
  /** Where the last known one is kept, for starts without the API server. */
  readonly file: string;
  readonly logger: Logger;
  /** Called with each authority that differs from the one before. */
  readonly onChange: (pem: string) => void;
}

/** The authority whose clients the agent lets in, as the controller published it last. */
export class ClientAuthority {
  readonly #options: ClientAuthorityOptions;
  #pem: string | undefined;

  private constructor(options: ClientAuthorityOptions, pem: string | undefined) {
    this.#options = options;
    this.#pem = pem;
  }

  /** Reads what an earlier run left. Errors are those of the file system. */
  static async open(options: ClientAuthorityOptions): Promise<ClientAuthority> {
    await mkdir(dirname(options.file), { recursive: true, mode: 0o700 });
    return new ClientAuthority(options, await read(options));
  }

  /** PEM of one or more certificates; undefined while none was ever seen. */
  get pem(): string | undefined {
    return this.#pem;
  }

  /**
   * Takes in the published authorities of the controller. An unreadable one is refused, so that the old one goes on
   * working.
   */
  async update(pem: string): Promise<void> {
    if (!isNewAuthority(pem, this.#pem, this.#options.logger)) {
      return;
    }
    this.#pem = pem;
    this.#options.logger.info('client authority changed');
    this.#options.onChange(pem);
    try {
      await writeFileAtomically(this.#options.file, pem);
    } catch (error) {
      this.#options.logger.error({ err: error }, 'client authority cannot be kept on disk');
    }
  }
}

async function read(options: ClientAuthorityOptions): Promise<string | undefined> {
  try {
    const pem = await readFile(options.file, 'utf8');
    certificatesIn(pem);
    return pem;
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') {
      options.logger.warn({ err: error }, 'kept client authority cannot be read');
    }
    return undefined;
  }
}
