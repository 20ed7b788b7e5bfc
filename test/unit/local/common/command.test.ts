import { expect, it } from 'vitest';
import { runCommand } from '../../../../local/common/command.ts';

it('a command whose program is not there names the program, and where to have Go from', async () => {
  const env = { PATH: '/nowhere' };
  await expect(runCommand('go', ['version'], { env })).rejects.toMatchObject({
    code: 'ProgramMissing',
    message: 'there is no program go on PATH, which builds programs that ESB needs: install Go from https://go.dev/dl/',
  });
  await expect(runCommand('flock', [], { env })).rejects.toMatchObject({ message: 'there is no program flock' });
});
