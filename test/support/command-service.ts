/**
 * Runs programs for tests that have a slow machine to themselves: on the machine that it is emulated on. Only what
 * needs nothing of the slow machine but a socket, such as kubectl.
 */
import { createServer, type Server } from 'node:http';
import { text } from 'node:stream/consumers';
import { request } from 'undici';
import { type CommandOptions, type CommandResult, run } from './command.ts';

interface Command {
  readonly program: string;
  readonly args: readonly string[];
  readonly options: CommandOptions;
}

/** Starts to run what it is asked to, on a port of the loopback. */
export async function serveCommands(): Promise<Server> {
  const server = createServer((incoming, response) => {
    text(incoming)
      .then((body) => {
        const { program, args, options } = JSON.parse(body) as Command;
        return run(program, args, options);
      })
      .then(
        (result) => response.end(JSON.stringify(result)),
        (error: Error) => response.writeHead(500).end(error.message),
      );
  });
  // A command answers when it ends.
  server.requestTimeout = 0;
  const listening = Promise.withResolvers<void>();
  server.once('error', listening.reject);
  server.listen(0, '127.0.0.1', () => listening.resolve());
  await listening.promise;
  return server;
}

/** As {@link run}, by the service at `url`. */
export async function runElsewhere(
  url: string,
  program: string,
  args: readonly string[],
  options: CommandOptions,
): Promise<CommandResult> {
  const { statusCode, body } = await request(url, {
    method: 'POST',
    body: JSON.stringify({ program, args, options }),
    // The command has a deadline of its own. `fetch` gives up after five minutes.
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  if (statusCode !== 200) {
    throw new Error(await body.text());
  }
  return (await body.json()) as CommandResult;
}
