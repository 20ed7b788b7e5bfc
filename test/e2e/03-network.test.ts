import { describe, expect, it } from 'vitest';
import { run } from '../support/command.ts';
import { waitFor } from '../support/wait-for.ts';
import { instance } from './support/instance.ts';

/** Prints the address of eth0 as the very first thing that happens in the container, then becomes the emulator. */
const firstLook = `
import fcntl, os, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
found = fcntl.ioctl(s.fileno(), 0x8915, struct.pack('256s', b'eth0'))[20:24]
print('pid', os.getpid(), 'eth0', socket.inet_ntoa(found), flush=True)
os.execv('/usr/local/bin/aws-lambda-rie', ['aws-lambda-rie', 'python3', '-m', 'awslambdaric', 'lambda_function.handler'])
`;

describe('the network of a worker', () => {
  const esb = instance();

  it('is there before its first process, with the address of the status and of the CNI result', {
    tags: ['P20'],
  }, async () => {
    await esb.apply('first-look', {
      nodeName: 'node-1',
      image: esb.image('python-emulator'),
      runtimeInterface: 'Emulator',
      command: ['python3', '-c', firstLook],
    });
    const worker = await esb.ready('first-look');
    const ip = worker.status?.address?.ip ?? '';
    const log = await waitFor('the first line of the worker', async () => {
      const text = await esb.workerLog(worker.status?.containerID ?? '');
      return text.includes('eth0') ? text : undefined;
    });
    expect(log).toContain(`pid 1 eth0 ${ip}`);
    const pid = await esb.taskPid(worker.status?.containerID ?? '');
    const { stdout } = await run('nsenter', [`--net=/proc/${pid}/ns/net`, 'ip', '-j', '-4', 'addr', 'show', 'eth0']);
    expect(JSON.parse(stdout)).toMatchObject([{ addr_info: [{ local: ip }] }]);
    // `find` fails when a foreign file goes while it looks, with any result.
    const cached = await run('grep', ['-rlF', `"${ip}/`, `${esb.home}/nodes/node-1/agent/cni`], {
      mayFail: true,
    });
    expect(cached.stdout, 'a CNI result that gives this address').not.toBe('');
    expect((await esb.invoke('first-look')).payload.counter).toBe(1);
  });

  it('lets a worker reach neither the node nor another worker', { tags: ['P23'] }, async () => {
    // Both have to listen on their addresses, as an emulator does.
    for (const name of ['inside', 'neighbour']) {
      await esb.apply(name, {
        image: esb.image('python-emulator'),
        nodeName: 'node-1',
        runtimeInterface: 'Emulator',
      });
    }
    const inside = await esb.ready('inside');
    const neighbour = await esb.ready('neighbour');
    const pid = await esb.taskPid(inside.status?.containerID ?? '');
    const reach = (host: string, port: number): Promise<{ code: number }> =>
      run(
        'nsenter',
        [
          `--net=/proc/${pid}/ns/net`,
          process.execPath,
          '-e',
          `const s=require('net').connect(${port},'${host}');s.on('connect',()=>process.exit(0));s.on('error',()=>process.exit(7));setTimeout(()=>process.exit(7),1500)`,
        ],
        { mayFail: true },
      );
    expect((await reach(inside.status?.address?.ip ?? '', 8080)).code, 'itself').toBe(0);
    expect((await reach(neighbour.status?.address?.ip ?? '', 8080)).code, 'another worker').toBe(7);
    // The registry listens on every address of the host.
    expect((await reach('10.234.0.1', Number(esb.registry.split(':')[1]))).code, 'the node').toBe(7);
  });
});
