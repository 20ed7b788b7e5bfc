import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parser } from '@prometheus-io/lezer-promql';
import { collectDefaultMetrics, Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

const root = join(import.meta.dirname, '../../..');

interface Metric {
  readonly kind: string;
  readonly labels: readonly string[];
}

/** Labels that Prometheus gives to every target, and those of the chart's ServiceMonitor. */
const targetLabels = ['job', 'instance', 'namespace', 'pod', 'role', 'node'];
const functionsOfCounters = new Set(['rate', 'irate', 'increase']);

/**
 * Every metric that there is: those of the reference, which is made from the source, and those of Node.js.
 */
function knownMetrics(): ReadonlyMap<string, Metric> {
  const reference = readFileSync(join(root, 'docs/reference/metrics.md'), 'utf8');
  const rows = reference.matchAll(/^\| `(?<name>\w+)` \| (?<kind>\w+) \| (?<labels>[^|]*) \|/gm);
  const own = [...rows].flatMap((row): readonly (readonly [string, Metric])[] => {
    const { name = '', kind = '', labels: named = '' } = row.groups ?? {};
    const labels = named.match(/\w+/g) ?? [];
    return kind === 'histogram'
      ? [
          [`${name}_bucket`, { kind: 'counter', labels: [...labels, 'le'] }],
          [`${name}_sum`, { kind: 'counter', labels }],
          [`${name}_count`, { kind: 'counter', labels }],
        ]
      : [[name, { kind, labels }]];
  });
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const usual = registry.getMetricsAsArray().map(({ name }): readonly [string, Metric] => {
    const kind = name.endsWith('_total') ? 'counter' : 'gauge';
    return [name, { kind, labels: [] }];
  });
  return new Map([...usual, ...own]);
}

const metrics = knownMetrics();

/** Faults of an expression. */
function faultsOf(expression: string): readonly string[] {
  const faults: string[] = [];
  const used: { readonly name: string; readonly labels: string[] }[] = [];
  const grouped: string[] = [];
  const text = ({ from, to }: { readonly from: number; readonly to: number }) => expression.slice(from, to);
  parser.parse(expression).iterate({
    enter(node) {
      if (node.type.isError) {
        faults.push(`does not parse at ${node.from}`);
      }
      if (node.name === 'VectorSelector') {
        const name = node.node.getChild('Identifier');
        const matchers = node.node.getChild('LabelMatchers')?.getChildren('UnquotedLabelMatcher') ?? [];
        used.push({
          name: name === null ? '' : text(name),
          labels: matchers.map((matcher) => text(matcher.getChild('LabelName') ?? matcher)),
        });
      }
      if (node.name === 'GroupingLabels') {
        grouped.push(...node.node.getChildren('LabelName').map(text));
      }
      if (node.name === 'FunctionCall' && functionsOfCounters.has(text(node.node.firstChild ?? node))) {
        const name = /\((\w+)/.exec(text(node))?.[1] ?? '';
        if (metrics.get(name)?.kind !== 'counter') {
          faults.push(`${name} is no counter`);
        }
      }
    },
  });
  const labels = used.flatMap(({ name }) => metrics.get(name)?.labels ?? []);
  return [
    ...faults,
    ...used.filter(({ name }) => !metrics.has(name)).map(({ name }) => `there is no metric ${name}`),
    ...used.flatMap((selector) =>
      selector.labels
        .filter((label) => ![...(metrics.get(selector.name)?.labels ?? []), ...targetLabels].includes(label))
        .map((label) => `${selector.name} has no label ${label}`),
    ),
    ...grouped
      .filter((label) => ![...labels, ...targetLabels].includes(label))
      .map((label) => `nothing has the label ${label}`),
    ...(used.length === 0 ? ['reads no metric'] : []),
  ];
}

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly annotations: Readonly<Record<string, string>>;
}

const { groups } = parse(readFileSync(join(root, 'charts/esb/files/alerts.yaml'), 'utf8')) as {
  readonly groups: readonly { readonly rules: readonly Rule[] }[];
};
const rules = groups.flatMap((group) => group.rules);

interface Panel {
  readonly id: number;
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
  readonly gridPos: {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
  };
}

const { panels } = JSON.parse(readFileSync(join(root, 'charts/esb/files/dashboard.json'), 'utf8')) as {
  readonly panels: readonly Panel[];
};
const queries = panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));

describe("what is asked of Prometheus' expressions", () => {
  it.each([
    ['sum(rate(esb_gateway_calls_total[5m]))', []],
    ['sum(rate(esb_gateway_calls_total[5m])', ['does not parse at 37']],
    [
      'sum(rate(esb_gateway_call_total[5m]))',
      ['esb_gateway_call_total is no counter', 'there is no metric esb_gateway_call_total'],
    ],
    ['esb_gateway_calls_total{function="f", result="ok"} > 0', ['esb_gateway_calls_total has no label result']],
    ['sum by (node, phase, kind) (esb_agent_workers)', ['nothing has the label kind']],
    ['rate(esb_agent_workers[5m])', ['esb_agent_workers is no counter']],
    ['1 > 0', ['reads no metric']],
  ])('is told of %s', (expression, faults) => {
    expect(faultsOf(expression)).toEqual(faults);
  });
});

describe('the alerts of the chart', () => {
  it.each(rules)('$alert asks for metrics and labels that there are', ({ expr }) => {
    expect(faultsOf(expr)).toEqual([]);
  });

  it.each(rules)('$alert says what happened, by labels that its expression leaves', ({ expr, annotations }) => {
    expect(Object.keys(annotations).toSorted()).toEqual(['description', 'summary']);
    const labels = Object.values(annotations).flatMap((text) => [...text.matchAll(/\$labels\.(\w+)/g)]);
    for (const [, label] of labels) {
      expect(expr).toMatch(new RegExp(`by \\([^)]*\\b${label}\\b`));
    }
  });
});

describe('the dashboard of the chart', () => {
  it.each(queries)('$title asks for metrics and labels that there are: $expr', ({ expr }) => {
    expect(faultsOf(expr.replaceAll('$__rate_interval', '5m'))).toEqual([]);
  });

  it('has no two panels in one place or with one id', () => {
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, cell) => `${x + (cell % w)},${y + Math.floor(cell / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    expect(Math.max(...panels.map(({ gridPos }) => gridPos.x + gridPos.w))).toBe(24);
  });
});
