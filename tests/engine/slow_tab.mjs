// The npm package graphql-ws, unmodified, in a tab that hangs: the event loop stands still, so nothing is read.
// Arguments: the directory whose node_modules to use, the socket's URL, the last sequence to wait for, and a file: the
// tab hangs until it exists.
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
  // A connection that ends without a close frame is an error event first, which by default ends everything.
  shouldRetry: () => true,
  retryWait: () => new Promise((resolve) => setTimeout(resolve, 50)),
  on: { closed: (event) => closes.push(event.code) },
});

let cursor = null;
const received = [];
const variables = {
  // Read anew each time the client subscribes: it resends this object on every reconnect.
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
