const suffixes: Readonly<Record<string, number>> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

const pattern = /^([+-]?(?:\d+\.?\d*|\.\d+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d+))?$/;

/**
 * A Kubernetes quantity as a plain number of its base unit: `128Mi` is 134217728, `500m` is 0.5. Undefined for any
 * other text; the resource schema refuses such text before.
 */
export function parseQuantity(quantity: number | string): number | undefined {
  const match = pattern.exec(String(quantity).trim());
  if (match === null) {
    return undefined;
  }
  const [, digits, suffix, exponent] = match;
  const scale = exponent === undefined ? suffixes[suffix ?? ''] : 10 ** Number(exponent);
  const value = Number(digits) * (scale ?? Number.NaN);
  return Number.isFinite(value) ? value : undefined;
}

/** A quantity of bytes in whole MiB, rounded up; `fallback` (MiB) for anything that is none. */
export function quantityToMiB(quantity: number | string | undefined, fallback: number): number {
  const bytes = quantity === undefined ? undefined : parseQuantity(quantity);
  return bytes === undefined ? fallback : Math.ceil(bytes / 2 ** 20);
}

/** A quantity of cores in whole thousandths, rounded up as Kubernetes does; undefined for anything that is none. */
export function quantityToMilli(quantity: number | string | undefined): number | undefined {
  const cores = quantity === undefined ? undefined : parseQuantity(quantity);
  // 0.1 * 1000 and the like must not become 101 by a rounding error of the last bit.
  return cores === undefined ? undefined : Math.ceil(Number((cores * 1000).toPrecision(12)));
}
