import { expect, it } from 'vitest';
import { createProgram } from '../../../src/command-line.ts';

/** Headings of the help text of a command, by flag. */
function headingsOf(name: string): Readonly<Record<string, string | undefined>> {
  const command = createProgram().commands.find((each) => each.name() === name);
  return Object.fromEntries((command?.options ?? []).map(({ helpGroupHeading, long }) => [long, helpGroupHeading]));
}

it.each([
  ['--most-slots', '64', 'as --slots says'],
  ['--prepared-workers', '4', 'rests Paused'],
])('the agent refuses the flag %s, which is gone, by its name', (...row) => {
  const [flag, value, instead] = row;
  const program = createProgram();
  const agent = program.commands.find((each) => each.name() === 'agent');
  agent?.exitOverride().configureOutput({ writeErr: () => undefined });
  const refusal = new RegExp(`option '${flag} <value>'.*The flag is gone.*${instead}`);
  expect(() => program.parse(['agent', '--node-name', 'node-1', flag, value], { from: 'user' })).toThrow(refusal);
  expect(agent?.helpInformation()).not.toContain(flag);
});

it('a flag that several commands share stands under the subject that it has in each', () => {
  expect(headingsOf('gateway')).toMatchObject({ '--otlp-endpoint': 'Observation:', '--kubeconfig': 'Cluster:' });
  expect(headingsOf('agent')).toMatchObject({ '--otlp-endpoint': 'Server:', '--kubeconfig': 'Cluster:' });
  expect(headingsOf('retire')).toMatchObject({ '--system-namespace': undefined });
});
