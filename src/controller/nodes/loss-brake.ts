/** The nodes of one zone, by whether they were heard lately. Nodes that are lost already are silent. */
export interface ZoneCount {
  readonly heard: number;
  readonly silent: number;
}

/** A node whose workers are to be served elsewhere as soon as the brake lets them. */
export interface SilentNode {
  readonly name: string;
  readonly zone: string;
  readonly silentMs: number;
}

// The defaults of kube-controller-manager's node lifecycle controller: --node-eviction-rate,
// --secondary-node-eviction-rate, --unhealthy-zone-threshold and --large-cluster-size-threshold.
const NODES_A_SECOND = 0.1;
const SECONDARY_NODES_A_SECOND = 0.01;
const UNHEALTHY_SHARE = 0.55;
const LARGE_ZONE = 50;
/** Silent nodes up to which no share of a zone means more than that these nodes have failed. */
const FEW_SILENT = 2;

/** A sum of parts of a node that is short of a whole one by rounding alone. */
const WHOLE = 1 - 1e-9;

/**
 * Nodes that may be lost in a second, by zone, as kube-controller-manager has it: nothing moves while every node is
 * silent, or while most of a small zone is; of a large zone that is mostly silent one node in 100 seconds, else one
 * node in ten seconds. A silent zone beside one that is heard has failed as a whole, and is left at the usual rate.
 */
export function lossRates(zones: ReadonlyMap<string, ZoneCount>): ReadonlyMap<string, number> {
  const isAnyHeard = [...zones.values()].some(({ heard }) => heard > 0);
  return new Map([...zones].map(([zone, count]) => [zone, isAnyHeard ? rateOf(count) : 0]));
}

function rateOf({ heard, silent }: ZoneCount): number {
  const isMostlySilent = heard > 0 && silent > FEW_SILENT && silent / (heard + silent) >= UNHEALTHY_SHARE;
  if (!isMostlySilent) {
    return NODES_A_SECOND;
  }
  return heard + silent > LARGE_ZONE ? SECONDARY_NODES_A_SECOND : 0;
}

/** Lets one node after the other be lost, at the rate of its zone. */
export class LossBrake {
  /** By zone, the part of a node that may be lost now; one at most. */
  #allowances: ReadonlyMap<string, number> = new Map();
  #rates: ReadonlyMap<string, number> = new Map();

  /**
   * Takes in what the zones are like and chooses the nodes that are lost now, those first that have been silent for the
   * longest time.
   *
   * @param elapsedMs milliseconds since the last choice
   */
  admit(elapsedMs: number, zones: ReadonlyMap<string, ZoneCount>, silent: readonly SilentNode[]): ReadonlySet<string> {
    this.#rates = lossRates(zones);
    const allowances = new Map(
      [...this.#rates].map(([zone, rate]) => [
        zone,
        Math.min(1, (this.#allowances.get(zone) ?? 0) + (rate * elapsedMs) / 1_000),
      ]),
    );
    this.#allowances = allowances;
    const admitted = new Set<string>();
    for (const { name, zone } of silent.toSorted((a, b) => b.silentMs - a.silentMs || (a.name < b.name ? -1 : 1))) {
      const allowance = allowances.get(zone) ?? 0;
      if (!this.isHeld(zone) && allowance >= WHOLE) {
        allowances.set(zone, 0);
        admitted.add(name);
      }
    }
    return admitted;
  }

  /** Whether no node of the zone may be lost, for as long as the zones are as they are. */
  isHeld(zone: string): boolean {
    return (this.#rates.get(zone) ?? 0) === 0;
  }
}
