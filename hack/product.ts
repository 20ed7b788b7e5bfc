/** A file that is made from other files of the repository. */
export interface Product {
  /** Where it is, from the root of the repository. */
  readonly path: string;
  readonly text: string;
}

/** Makes some files from the repository whose root it is given; writes nothing. */
export type ProductMaker = (root: string) => readonly Product[] | Promise<readonly Product[]>;
