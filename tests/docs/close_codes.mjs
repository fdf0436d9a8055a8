// Finds out whether graphql-ws tries again or gives up when a socket is closed with the code in the path of the URL.
// Arguments: the server's address, and the codes as JSON. Prints {code: "retries" | "gives up"}.
import { createClient } from 'graphql-ws';

const [address, codes] = process.argv.slice(2);

function outcome(code) {
  return new Promise((resolve) => {
    let connections = 0;
    const client = createClient({
      url: `ws://${address}/${code}`,
      retryAttempts: Infinity,
      shouldRetry: () => true,
      retryWait: async () => {},
      on: {
        connected() {
          if (++connections === 2) resolve('retries');
        },
      },
    });
    client.subscribe({ query: 'subscription { messages(channelId: "general") { id } }' }, { next() {}, error: () => resolve('gives up'), complete() {} });
  });
}

const outcomes = await Promise.all(JSON.parse(codes).map(async (code) => [code, await outcome(code)]));
console.log(JSON.stringify(Object.fromEntries(outcomes)));
process.exit(0);
