// Follows a channel with unmodified graphql-ws clients. Prints what each of them receives, one line of JSON for a message.
//
//   node follow.mjs '{"nodes": ["ws://…"], "channelId": "general", "after": "<cursor>", "clients": 5}'

import { createClient } from "graphql-ws";

const { nodes, channelId, after, clients } = JSON.parse(process.argv[2]);

const query = `subscription Messages($channelId: ID!, $after: Cursor) {
  messages(channelId: $channelId, after: $after) { sequence cursor content }
}`;

for (let client = 0; client < clients; client++) {
  let newest = after;
  const connection = createClient({
    // This is what a load balancer without sticky sessions would do.
    url: () => nodes[Math.floor(Math.random() * nodes.length)],
    retryAttempts: Infinity,
    retryWait: () => new Promise((done) => setTimeout(done, 50 + Math.random() * 200)),
    shouldRetry: () => true,
    keepAlive: 10_000,
    on: {
      connected: () => console.log(JSON.stringify({ client, event: "connected" })),
      closed: (close) => console.log(JSON.stringify({ client, event: "closed", code: close?.code ?? null })),
    },
  });
  connection.subscribe(
    {
      query,
      variables: {
        channelId,
        // The client sends its payload again on every connection. Then it reads the newest cursor here.
        get after() {
          return newest;
        },
      },
    },
    {
      next: ({ data, errors }) => {
        if (errors) throw new Error(JSON.stringify(errors));
        const { sequence, cursor, content } = data.messages;
        newest = cursor;
        console.log(JSON.stringify({ client, event: "message", sequence, content }));
      },
      error: (error) => console.log(JSON.stringify({ client, event: "error", error: String(error?.message ?? error) })),
      complete: () => console.log(JSON.stringify({ client, event: "complete" })),
    },
  );
}
