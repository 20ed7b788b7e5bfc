import { expect, it } from 'vitest';
import { createProgram } from '../../../src/command-line.ts';

/** Headings of the help text of a command, by flag. */
function headingsOf(name: string): Readonly<Record<string, string | undefined>> {
  const command = createProgram().commands.find((each) => each.name() === name);
  return Object.fromEntries((command?.options ?? []).map(({ helpGroupHeading, long }) => [long, helpGroupHeading]));
}

it('a flag that several commands share stands under the subject that it has in each', () => {
  expect(headingsOf('gateway')).toMatchObject({ '--otlp-endpoint': 'Observation:', '--kubeconfig': 'Cluster:' });
  expect(headingsOf('agent')).toMatchObject({ '--otlp-endpoint': 'Server:', '--kubeconfig': 'Cluster:' });
  expect(headingsOf('retire')).toMatchObject({ '--system-namespace': undefined });
});
