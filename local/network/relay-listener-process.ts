// Listens on 127.0.0.1 for each given port, in the network namespace that the process was started in, hands the
// listening sockets to its parent, and ends. A socket keeps the namespace that it was made in.
import { createServer } from 'node:net';

process.on('message', (port: number) => {
  const server = createServer();
  server.on('error', (error) => {
    process.send?.({ port, error: error.message });
  });
  server.listen(port, '127.0.0.1', () => {
    process.send?.({ port }, server);
  });
});
process.on('disconnect', () => process.exit(0));
