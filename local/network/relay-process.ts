// Makes loopback services of the host reachable on the loopback of a network namespace:
//   node local/network/relay-process.ts NAMESPACE HEALTH-SOCKET PORT...
import { serveRelay } from './relay.ts';

const [namespace = '', healthSocket = '', ...ports] = process.argv.slice(2);
for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.on(name, () => process.exit(0));
}
await serveRelay({ namespace, healthSocket, ports: ports.map(Number) });
