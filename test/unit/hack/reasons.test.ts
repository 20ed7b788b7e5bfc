import { describe, expect, it } from 'vitest';
import { reasonFaults } from '../../../hack/reason-document.ts';
import { reasonsIn } from '../../../hack/reason-scan.ts';
import type { ReasonSection } from '../../../hack/reason-table.ts';

const sections: readonly ReasonSection[] = [
  {
    title: 'Ready',
    introduction: '',
    rows: [{ status: 'True', reason: 'Running', meaning: 'it runs' }],
  },
];

describe('reasons in the source', () => {
  it.each([
    ["{ ok: false, reason: 'DiskFull', message }", ['DiskFull']],
    ["readonly reason: 'PortsLow' | 'AddressesLow';", ['PortsLow', 'AddressesLow']],
    ["const reason = oomKilled ? 'OOMKilled' : 'Error';", ['OOMKilled', 'Error']],
    ["return no('Pulling', text);", ['Pulling']],
    ["condition('Clean', this.#leftovers, 'NothingLeft', text)", ['NothingLeft']],
    [
      "export const readyReasons = {\n  /** It's so. */\n  running: 'Running',\n  lost: 'NodeLost',\n} as const;",
      ['Running', 'NodeLost'],
    ],
    ["export type RefusalReason =\n  /** None. */\n  | 'NotFound'\n  | 'Fenced';", ['NotFound', 'Fenced']],
  ])('are found in %j', (text, reasons) => {
    expect(reasonsIn(text)).toEqual(reasons);
  });

  it('are not what only looks like one', () => {
    expect(reasonsIn("{ reason: 'the token is for another audience', kind: 'Refused' }")).toEqual([]);
  });

  it('are codes of errors where those end up in a condition, but for those that nobody is told', () => {
    const text = "new EsbError(text, { code: 'NotListening' }); new EsbError(text, { code: 'LogCutShort' })";
    expect(reasonsIn(text)).toEqual([]);
    expect(reasonsIn(text, true)).toEqual(['NotListening']);
  });
});

describe('the table of reasons', () => {
  it('fits a source that has the same', () => {
    const found = [{ reason: 'Running', file: 'src/agent/model/conditions.ts' }];
    expect(reasonFaults(sections, found, new Set(['Running']))).toEqual([]);
  });

  it('lacks what only the source has, and the fault says where', () => {
    const found = [{ reason: 'Drained', file: 'src/controller/drain.ts' }];
    expect(reasonFaults(sections, found, new Set(['Running', 'Drained']))).toEqual([
      'src/controller/drain.ts has the reason Drained: say there what it means',
    ]);
  });

  it('may not tell of what the source does not have', () => {
    expect(reasonFaults(sections, [], new Set())).toEqual(['it tells of Running, which is nowhere in src/']);
  });
});
