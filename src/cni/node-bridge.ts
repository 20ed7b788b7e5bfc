import type { CallOptions } from '../common/deadline.ts';
import type { CommandRunner } from './command-runner.ts';
import { type Ipv4Range, numberToIpv4 } from './ipv4-range.ts';
import { runNodeCommand } from './node-command.ts';

/**
 * Makes the bridge before the plugin does, with an address of its own: a bridge without one takes the lowest of its
 * ports' and changes it as they come and go, and workers then send to the old one until their neighbour entries expire.
 * The plugin finds the bridge and uses it as it is. `hostInterfaces` are put back on it, isolated from each other.
 */
export async function createBridge(
  runner: CommandRunner,
  bridge: string,
  subnet: Ipv4Range,
  hostInterfaces: readonly string[],
  options: CallOptions = {},
): Promise<void> {
  const gateway = subnet.first + 1;
  const fail = { ...options, errorCode: 'BridgeFailed' };
  await runNodeCommand(
    runner,
    'ip',
    ['link', 'add', 'name', bridge, 'address', bridgeAddress(gateway), 'type', 'bridge'],
    fail,
  );
  const up = [
    `address add ${numberToIpv4(gateway)}/${subnet.prefixLength} brd + dev ${bridge}`,
    `link set dev ${bridge} up`,
  ];
  await runNodeCommand(runner, 'ip', ['-batch', '-'], { ...fail, input: batch(up) });
  if (hostInterfaces.length > 0) {
    const ports = hostInterfaces.flatMap((name) => [
      `link set dev ${name} master ${bridge}`,
      `link set dev ${name} type bridge_slave isolated on`,
    ]);
    // One interface that is gone must not keep the others off the bridge.
    await runner.run({
      program: 'ip',
      args: ['-force', '-batch', '-'],
      input: batch(ports),
      signal: options.signal,
    });
  }
}

function batch(lines: readonly string[]): string {
  return `${lines.join('\n')}\n`;
}

/** Removes the bridge; missing is success. */
export async function removeBridge(
  runner: CommandRunner,
  bridge: string,
  options: CallOptions = {},
): Promise<void> {
  const fail = { ...options, errorCode: 'BridgeFailed' };
  const present = await runNodeCommand(runner, 'ip', ['-o', 'link', 'show', 'type', 'bridge'], fail);
  if (present.split('\n').some((line) => line.split(': ')[1]?.trim() === bridge)) {
    await runNodeCommand(runner, 'ip', ['link', 'delete', 'dev', bridge], fail);
  }
}

/** A locally administered hardware address made from the gateway's, as container networks do. */
function bridgeAddress(gateway: number): string {
  const bytes = [24, 16, 8, 0].map((shift) => Math.floor(gateway / 2 ** shift) % 256);
  return ['0a', '58', ...bytes.map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}
