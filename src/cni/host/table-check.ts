import { hasCode } from '../../common/errors.ts';
import type { CommandRunner } from '../../common/exec/command-runner.ts';
import { isObject, listOf } from '../spec/network-config.ts';
import { chainsOf, EGRESS_INPUT_MAP, EGRESS_MAP, type HeldEgress } from './egress-rules.ts';
import { entriesOf, RULES_TABLE, readFilter } from './nftables.ts';

/** Parts of our table that another program may take away without the table. */
export interface TableShape {
  /** Number of rules of each chain. */
  readonly rules: ReadonlyMap<string, number>;
  /** Sets that have elements. */
  readonly filled: ReadonlySet<string>;
}

/** The shape of a table that was written with this text, in which each rule has a line. */
export function shapeOf(text: string): TableShape {
  const rules = new Map<string, number>();
  const filled = new Set<string>();
  for (const [, kind, name = '', body = ''] of text.matchAll(/^ {2}(chain|set) (\w+) \{\n([\s\S]*?)^ {2}\}$/gm)) {
    const lines = body.split('\n').map((line) => line.trim());
    if (kind === 'chain') {
      rules.set(name, lines.filter((line) => line !== '' && !line.startsWith('type ')).length);
    } else if (lines.some((line) => line.startsWith('elements ='))) {
      filled.add(name);
    }
  }
  return { rules, filled };
}

/** Whether our table has its chains with their rules, its sets, and the elements of workers with a class. */
export async function hasNodeRules(
  runner: CommandRunner,
  shape: TableShape,
  held: () => readonly HeldEgress[],
): Promise<boolean> {
  try {
    const before = held();
    const document = await readFilter(runner, ['table', 'inet', RULES_TABLE]);
    const after = new Set(held().map(({ mac }) => mac));
    // A worker that comes or goes meanwhile may be in the table or not.
    const steady = before.filter(({ mac }) => after.has(mac));
    return hasShape(document, shape) && hasElements(document, steady);
  } catch (error) {
    // The table is gone; anything else that is wrong shows when the table is written.
    if (hasCode(error, 'NftFailed')) {
      return false;
    }
    throw error;
  }
}

function hasShape(document: unknown, { rules, filled }: TableShape): boolean {
  const chains = new Set(entriesOf(document, 'chain').map(({ name }) => name));
  const sets = entriesOf(document, 'set');
  const found = Map.groupBy(entriesOf(document, 'rule'), ({ chain }) => chain);
  return (
    [...rules].every(([name, count]) => chains.has(name) && (found.get(name)?.length ?? 0) === count) &&
    [...filled].every((name) => sets.some((set) => set.name === name && listOf(set.elem).length > 0))
  );
}

function hasElements(document: unknown, held: readonly HeldEgress[]): boolean {
  const maps = entriesOf(document, 'map');
  const [forward, input] = [EGRESS_MAP, EGRESS_INPUT_MAP].map((name) =>
    targetsOf(maps.find((map) => map.name === name)?.elem),
  );
  return held.every(({ egress, mac }) => {
    const wanted = chainsOf(egress);
    return forward?.get(mac) === wanted.forward && input?.get(mac) === wanted.input;
  });
}

/** Chains by link address in the elements of a map, as `nft -j` has them: `["…", {"goto": {"target": "…"}}]`. */
function targetsOf(elements: unknown): ReadonlyMap<string, string> {
  return new Map(
    listOf(elements).flatMap((element) => {
      const [mac, verdict] = listOf(element);
      const goto = isObject(verdict) ? verdict.goto : undefined;
      const target = isObject(goto) ? goto.target : undefined;
      return typeof mac === 'string' && typeof target === 'string' ? [[mac, target] as const] : [];
    }),
  );
}
