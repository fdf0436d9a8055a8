// The unmodified npm package graphql-ws in a tab that hangs: its event loop does nothing, so nothing is read.
// Arguments: a directory whose node_modules are used, the URL of the socket, the last sequence to wait for, and the name of
// a file. The tab hangs until this file exists.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [directory, url, last, wakeUp] = process.argv.slice(2);
const require = createRequire(`${directory}/package.json`);
const { createClient } = await import(pathToFileURL(require.resolve('graphql-ws')));

const closes = [];
const client = createClient({
  url,
  retryAttempts: Infinity,
  // If a connection ends without a close frame, there is an error event first, and by default that ends everything.
  shouldRetry: () => true,
  retryWait: () => new Promise((resolve) => setTimeout(resolve, 50)),
  on: { closed: (event) => closes.push(event.code) },
});

let cursor = null;
const received = [];
const variables = {
  // This is called each time the client subscribes, because it sends this object again on every connection.
  get after() {
    return cursor;
  },
};
client.subscribe(
  { query: 'subscription ($after: Cursor) { messages(channelId: "general", after: $after) { sequence cursor content } }', variables },
  {
    next: ({ data }) => {
      received.push(data.messages.sequence);
      cursor = data.messages.cursor;
      if (received.length === 1) {
        console.log('hanging');
        while (!existsSync(wakeUp)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
      }
      if (data.messages.sequence === Number(last)) {
        console.log(JSON.stringify({ received, closes }));
        process.exit(0);
      }
    },
    error: (error) => {
      console.log(JSON.stringify({ error: String(error?.message ?? error), received, closes }));
      process.exit(1);
    },
    complete: () => process.exit(2),
  },
);
